import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';
import { choiceOf, partsOf, requirementOf, type Choice } from '../model/requirements';
import type { Declared } from '../model/rest';
import { Busy, Press, Problem, useAsked } from './parts';
import type { PanelProps } from './panelBody';

type Sign = Choice['sign'];

const SIGNS: readonly Sign[] = ['', '>=', '==', '~='];

/** Choose the versions and the extras of a declared package, then see what that would change. */
export function VersionEditor(props: {
  environment: PanelProps['environment'];
  one: Declared;
  trans: PanelProps['trans'];
  propose: (requirement: string) => void;
  close: () => void;
}): React.JSX.Element | null {
  const { environment, one, trans, propose, close } = props;
  const parts = partsOf(one.requirement);
  const said = choiceOf(parts?.versions ?? '');
  const [sign, setSign] = React.useState(said.sign);
  const [version, setVersion] = React.useState(said.version || (one.installed ?? ''));
  const [extras, setExtras] = React.useState(parts?.extras ?? []);
  const found = useAsked(async () => {
    const body = { ...environment.subject(), name: one.name };
    return (await environment.api.run<{ versions: string[] }>('versions', body)).versions;
  });
  const form = React.useRef<HTMLFormElement>(null);
  const ask = React.useRef(found.ask);
  React.useEffect(() => {
    ask.current();
    form.current?.querySelector('select')?.focus();
  }, []);
  if (!parts) {
    return null;
  }
  const words: Record<Sign, string> = {
    '': trans.__('any version'),
    '>=': trans.__('at least'),
    '==': trans.__('exactly'),
    '~=': trans.__('compatible with'),
    kept: trans.__('as declared (%1)', parts.versions)
  };
  const versions = [...new Set([...(found.value ?? []), version])].filter(text => text !== '');
  const offered = [...new Set([...one.extras, ...parts.extras])];
  const chosen = sign === 'kept' ? parts.versions : sign && `${sign}${version}`;
  const wanted = requirementOf({ ...parts, extras, versions: chosen });
  return (
    <form
      ref={form}
      className="jp-TorchOverlay-card jp-TorchOverlay-editor"
      aria-label={trans.__('Versions of %1', one.name)}
      onSubmit={event => {
        event.preventDefault();
        propose(wanted);
      }}
      onKeyDown={event => {
        if (event.key === 'Escape') {
          close();
        }
      }}
    >
      <div className="jp-TorchOverlay-field">
        <HTMLSelect
          aria-label={trans.__('Which versions of %1', one.name)}
          value={sign}
          onChange={event => setSign(event.currentTarget.value as Sign)}
        >
          {(said.sign === 'kept' ? [said.sign, ...SIGNS] : SIGNS).map(value => (
            <option key={value} value={value}>
              {words[value]}
            </option>
          ))}
        </HTMLSelect>
        {sign && sign !== 'kept' && (
          <HTMLSelect
            aria-label={trans.__('Version of %1', one.name)}
            value={version}
            onChange={event => setVersion(event.currentTarget.value)}
          >
            {versions.map(text => (
              <option key={text} value={text}>
                {text}
              </option>
            ))}
          </HTMLSelect>
        )}
      </div>
      {found.busy && <Busy text={trans.__('Looking up its versions …')} trans={trans} />}
      {found.failure && <Problem failure={found.failure} trans={trans} />}
      {offered.length > 0 && (
        <fieldset className="jp-TorchOverlay-extras">
          <legend>{trans.__('Extras')}</legend>
          {offered.map(extra => (
            <label key={extra}>
              <input
                type="checkbox"
                checked={extras.includes(extra)}
                onChange={event => {
                  const on = event.currentTarget.checked;
                  setExtras(on ? [...extras, extra] : extras.filter(other => other !== extra));
                }}
              />
              {extra}
            </label>
          ))}
        </fieldset>
      )}
      <div className="jp-TorchOverlay-buttons">
        <button
          type="submit"
          className="jp-TorchOverlay-button jp-mod-main"
          disabled={wanted === requirementOf(parts)}
        >
          {trans.__('Preview')}
        </button>
        <Press onClick={close}>{trans.__('Cancel')}</Press>
      </div>
    </form>
  );
}
