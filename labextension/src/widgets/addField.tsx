import * as React from 'react';
import type { NotebookEnvironment } from '../notebook/environment';
import { useAsked } from './parts';
import type { PanelProps } from './panelBody';

/** Where a package is typed in; names that this machine knows are offered. */
export function AddField(props: {
  environment: NotebookEnvironment;
  trans: PanelProps['trans'];
  add: (requirement: string) => void;
}): React.JSX.Element {
  const { environment, trans, add } = props;
  const [text, setText] = React.useState('');
  const list = React.useId();
  const names = useAsked(() =>
    environment.api.get<{ installed: string[]; base: string[] }>('names')
  );
  const wanted = text.trim();
  const known = wanted
    ? [...(names.value?.installed ?? []), ...(names.value?.base ?? [])].filter(name =>
        name.startsWith(wanted)
      )
    : [];
  return (
    <form
      className="jp-TorchOverlay-add"
      onSubmit={event => {
        event.preventDefault();
        if (wanted) {
          add(wanted);
          setText('');
        }
      }}
    >
      <input
        className="jp-mod-styled"
        value={text}
        onChange={event => setText(event.currentTarget.value)}
        onFocus={() => {
          if (!names.value && !names.busy) {
            names.ask();
          }
        }}
        onKeyDown={event => event.stopPropagation()}
        list={list}
        placeholder={trans.__('seaborn>=0.13')}
        aria-label={trans.__('Package to add, with versions if you like')}
        autoComplete="off"
        spellCheck={false}
      />
      <datalist id={list}>
        {known.slice(0, 20).map(name => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <button type="submit" className="jp-TorchOverlay-button jp-mod-main" disabled={!wanted}>
        {trans.__('Add')}
      </button>
    </form>
  );
}
