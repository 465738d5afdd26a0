import { HTMLSelect } from '@jupyterlab/ui-components';
import * as React from 'react';
import type { Base, Choose, Hardware } from '../model/rest';
import { baseName, bytes, spokenTag } from '../model/words';
import { choose, say } from '../notebook/actions';
import { home } from '../notebook/declarations';
import { tagOf } from '../notebook/kernel';
import { Press, Problem, Section, useAsked } from './parts';
import type { PanelProps } from './panelBody';
import { UnkeptKeys } from './unkept';

/** Milliseconds between two looks at the GPUs' free memory. */
const LIVE = 5000;

const ACCELERATORS = ['auto', 'cpu', 'cuda', 'rocm', 'xpu'];

/** Which torch the notebook runs on, why, and which others there are. */
export function BaseSection({ environment, trans, state }: PanelProps): React.JSX.Element {
  const base = state.base;
  const [unkept, setUnkept] = React.useState<Record<string, string> | null>(null);
  const using = useAsked((wanted: Choose) => choose(environment.panel, wanted, trans));
  /** Whether the notebook keeps these keys; else it is told how it would. */
  const keeps = (keys: Record<string, string>) => {
    const kept = home(environment.panel) === 'metadata' || Object.keys(keys).length === 0;
    setUnkept(kept ? null : keys);
    return kept;
  };
  return (
    <Section title={trans.__('Base')} hint={base ? baseName(base, state.device) : undefined} open>
      {base && (
        <dl className="jp-TorchOverlay-facts">
          <dt>torch</dt>
          <dd>{base.torch}</dd>
          <dt>Python</dt>
          <dd>{base.python}</dd>
          <dt>{trans.__('Size')}</dt>
          <dd>{trans.__('%1, shared by all notebooks on it', bytes(base.bytes))}</dd>
          <dt>{trans.__('Why')}</dt>
          <dd>{state.reason}</dd>
        </dl>
      )}
      <Accelerator environment={environment} trans={trans} state={state} keeps={keeps} />
      {unkept && <UnkeptKeys environment={environment} trans={trans} keys={unkept} />}
      <ul className="jp-TorchOverlay-bases" aria-label={trans.__('Bases on this machine')}>
        {(state.bases ?? []).map(one => (
          <BaseRow
            key={one.id}
            base={one}
            current={one.id === base?.id}
            use={() => {
              if (one.choose && keeps(one.choose.torch_env)) {
                using.ask(one.choose);
              }
            }}
            disabled={using.busy}
            trans={trans}
          />
        ))}
      </ul>
      {using.failure && <Problem failure={using.failure} trans={trans} />}
      {state.bases?.length !== 0 && (
        <Machine environment={environment} trans={trans} state={state} />
      )}
    </Section>
  );
}

function Accelerator(
  props: PanelProps & { keeps: (keys: Record<string, string>) => boolean }
): React.JSX.Element {
  const { environment, trans, state, keeps } = props;
  const wish = state.request.accelerator;
  const kernels = environment.panel.sessionContext.specsManager.specs?.kernelspecs;
  const pinned = tagOf(kernels?.[state.kernel]);
  if (pinned) {
    return (
      <p className="jp-TorchOverlay-hint">
        {trans.__(
          'The kernel %1 is for %2. Pick the kernel "torch (shared)" to choose the accelerator here.',
          state.kernel,
          spokenTag(pinned)
        )}
      </p>
    );
  }
  const values = ACCELERATORS.includes(wish) ? ACCELERATORS : [...ACCELERATORS, wish];
  return (
    <label className="jp-TorchOverlay-field">
      <span>{trans.__('Accelerator')}</span>
      <HTMLSelect
        value={wish}
        title={trans.__('auto takes the newest that this machine runs')}
        onChange={event => {
          const value = event.currentTarget.value;
          if (keeps({ accelerator: value })) {
            say(environment.panel, 'accelerator', value === 'auto' ? undefined : value);
          }
        }}
      >
        {values.map(value => (
          <option key={value} value={value}>
            {value}
          </option>
        ))}
      </HTMLSelect>
    </label>
  );
}

function BaseRow(props: {
  base: Base;
  current: boolean;
  use: () => void;
  disabled: boolean;
  trans: PanelProps['trans'];
}): React.JSX.Element {
  const { base, current, use, disabled, trans } = props;
  const fits = base.why_not.length === 0;
  const facts = [
    `Python ${base.python}`,
    bytes(base.bytes),
    ...(base.adopted ? [trans.__('adopted')] : [])
  ];
  return (
    <li
      className={`jp-TorchOverlay-base${fits ? '' : ' jp-mod-unfit'}`}
      aria-current={current || undefined}
    >
      <div>
        <div className="jp-TorchOverlay-baseName">{baseName(base)}</div>
        <div className="jp-TorchOverlay-hint">{facts.join(' · ')}</div>
        {!fits && <div className="jp-TorchOverlay-hint">{base.why_not.join('; ')}</div>}
      </div>
      {current ? (
        <span className="jp-TorchOverlay-mark">{trans.__('in use')}</span>
      ) : (
        <Press
          onClick={use}
          disabled={disabled || base.choose === null}
          title={chooseTitle(base, trans)}
          label={trans.__('Use %1', baseName(base))}
        >
          {trans.__('Use')}
        </Press>
      )}
    </li>
  );
}

function chooseTitle(base: Base, trans: PanelProps['trans']): string {
  if (base.choose === null) {
    return trans.__('It cannot be used here');
  }
  const said = Object.entries(base.choose.torch_env).map(([key, value]) => `${key}: ${value}`);
  if (base.choose.kernel) {
    return trans.__('Start the kernel %1 for this notebook now', base.choose.kernel);
  }
  return trans.__('Write %1 into this notebook', said.join(', '));
}

/** The GPUs of this machine, with what memory is free of each. */
export function Machine({ environment, trans }: PanelProps): React.JSX.Element | null {
  const [value, setValue] = React.useState<Hardware | null>(null);
  const live = value !== null && value.gpus.length > 0;
  React.useEffect(() => {
    let there = true;
    const look = () => {
      if (!document.hidden && environment.isLookedAt) {
        environment.api.get<Hardware>('hardware').then(
          found => there && setValue(found),
          () => undefined
        );
      }
    };
    look();
    const timer = live ? setInterval(look, LIVE) : undefined;
    return () => {
      there = false;
      clearInterval(timer);
    };
  }, [environment, live]);
  if (!value) {
    return null;
  }
  const others = [
    ...value.amd.map(name => `AMD ${name}`),
    ...(value.xpu ? [trans.__('Intel GPU')] : []),
    ...(value.mps ? [trans.__('Apple GPU')] : [])
  ];
  return (
    <div className="jp-TorchOverlay-machine">
      {value.gpus.map((gpu, at) => (
        <div key={at}>
          <span>{gpu.name}</span>
          <meter
            min={0}
            max={gpu.memory || 1}
            value={gpu.memory - gpu.memory_free}
            aria-label={trans.__('Memory in use of %1', gpu.name)}
          />
          <span className="jp-TorchOverlay-hint">
            {trans.__('%1 of %2 free', bytes(gpu.memory_free), bytes(gpu.memory))}
          </span>
        </div>
      ))}
      {others.map(name => (
        <div key={name}>{name}</div>
      ))}
      {value.gpus.length + others.length === 0 && (
        <div className="jp-TorchOverlay-hint">
          {trans.__('This machine has no GPU that torch could use.')}
        </div>
      )}
      {value.notes.map(note => (
        <div key={note} className="jp-TorchOverlay-hint">
          {note}
        </div>
      ))}
    </div>
  );
}
