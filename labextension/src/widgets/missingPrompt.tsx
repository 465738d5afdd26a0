import { Button } from '@jupyterlab/ui-components';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { plainText } from '../model/ansi';
import type { MissingModule } from '../model/missing';

/** How far the adding is; `detail` are the lines of a traceback. */
export interface Step {
  state: 'busy' | 'done' | 'failed';
  text: string;
  detail?: string[];
}

interface Props {
  missing: MissingModule;
  /** Whether the notebook keeps that a package is declared. */
  declares: boolean;
  trans: TranslationBundle;
  add: (again: boolean) => AsyncGenerator<Step>;
}

/** One line under a traceback: what is missing, and a click that adds it. */
export function MissingPrompt(props: Props): React.JSX.Element {
  return <Prompt {...props} />;
}

function Prompt({ missing, declares, trans, add }: Props): React.JSX.Element {
  const [step, setStep] = React.useState<Step | null>(null);
  const begin = async (again: boolean) => {
    for await (const next of add(again)) {
      setStep(next);
    }
  };
  const { module, distribution } = missing;
  const said =
    module === distribution
      ? trans.__("%1 is not in this notebook's environment.", module)
      : trans.__(
          "%1 is not in this notebook's environment. It is in the package %2.",
          module,
          distribution
        );
  const busy = step?.state === 'busy';
  return (
    <div className="jp-TorchOverlay-prompt">
      <div>{said}</div>
      {step?.state !== 'done' && (
        <div className="jp-TorchOverlay-buttons">
          <Button
            className="jp-mod-styled jp-mod-accept"
            disabled={busy}
            onClick={() => void begin(true)}
            title={
              declares
                ? trans.__(
                    'Install %1 now, declare it in this notebook, and run this cell again',
                    distribution
                  )
                : trans.__('Install %1 now, and run this cell again', distribution)
            }
          >
            {trans.__('Add %1 and run again', distribution)}
          </Button>
          <Button
            className="jp-mod-styled"
            disabled={busy}
            onClick={() => void begin(false)}
            title={
              declares
                ? trans.__('Install %1 now, and declare it in this notebook', distribution)
                : trans.__('Install %1 now', distribution)
            }
          >
            {trans.__('Add %1', distribution)}
          </Button>
        </div>
      )}
      <div role="status" className={`jp-TorchOverlay-step jp-mod-${step?.state ?? 'idle'}`}>
        {step?.text}
        {step?.detail && step.detail.length > 0 && (
          <details>
            <summary>{trans.__('Details')}</summary>
            <pre>{plainText(step.detail.join('\n'))}</pre>
          </details>
        )}
      </div>
    </div>
  );
}
