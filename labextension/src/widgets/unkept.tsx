import * as React from 'react';
import { unkeptText } from '../model/words';
import { home } from '../notebook/declarations';
import type { PanelProps } from './panelBody';

interface Props {
  environment: PanelProps['environment'];
  trans: PanelProps['trans'];
}

/** That jupytext drops what the panel would write into a text notebook, and the commands that write it. */
export function Unkept(props: Props & { commands: readonly string[] }): React.JSX.Element {
  const { environment, trans, commands } = props;
  const { panel } = environment;
  return (
    <div className="jp-TorchOverlay-notice">
      <p>{unkeptText(panel.title.label, home(panel), trans)}</p>
      {home(panel) === 'script' && (
        <pre tabIndex={0} aria-label={trans.__('To run in a terminal')}>
          {commands.join('\n')}
        </pre>
      )}
    </div>
  );
}

/** The same of what no command writes: keys of `torch_env`. */
export function UnkeptKeys(
  props: Props & { keys: Readonly<Record<string, string>> }
): React.JSX.Element {
  const { environment, trans, keys } = props;
  return (
    <div className="jp-TorchOverlay-notice">
      <p>
        {trans.__(
          'jupytext drops what would be written into the metadata of %1. Write it into the YAML header, and name torch_env in jupytext’s notebook_metadata_filter there:',
          environment.panel.title.label
        )}
      </p>
      <pre tabIndex={0} aria-label={trans.__('For the YAML header')}>
        {`torch_env: ${JSON.stringify(keys)}`}
      </pre>
    </div>
  );
}
