import * as React from 'react';
import { declared, extrasOf, nameOf, undeclared, withExtras } from '../model/requirements';
import type { Fix, Step } from '../model/rest';
import { quoted } from '../model/text';
import { spokenTag, stepText } from '../model/words';
import { byHand, choose, redeclare, saveAndRestart, say, type Proposal } from '../notebook/actions';
import { fileName, goToCell, home, read, scriptCell, write } from '../notebook/declarations';
import { Machine } from './baseSection';
import { makeBase } from './newBase';
import { Busy, failureOf, Press, Problem } from './parts';
import type { PanelProps } from './panelBody';
import { Unkept, UnkeptKeys } from './unkept';

/** A fix that is a button. */
type Pressed = Exclude<Fix, { do: 'ask' }>;

/** A fix that changes what is declared. */
type Redeclaring = Extract<Fix, { do: 'remove' | 'replace' }>;

/** What is wrong, why, and a button for each way out. */
export function FailureCard(props: PanelProps): React.JSX.Element | null {
  const { environment, trans, state } = props;
  const [making, setMaking] = React.useState<{ step: Step; stop: AbortController } | null>(null);
  const [problem, setProblem] = React.useState<unknown>(null);
  const [pressed, setPressed] = React.useState('');
  const failure = state.failure ?? (state.running?.pending.length ? null : state.running?.failure);
  if (!failure) {
    return null;
  }
  if (making) {
    const { done = 0, total = 0 } = making.step;
    return (
      <Busy
        text={stepText(making.step, 0, trans)}
        fraction={total > 0 ? done / total : null}
        trans={trans}
        onCancel={() => making.stop.abort()}
      />
    );
  }
  const press = (fix: Pressed) => {
    setPressed(JSON.stringify(fix));
    setProblem(null);
    if (insteadOf(fix, props)) {
      return;
    }
    const stop = new AbortController();
    const tell = (step: Step) => setMaking({ step, stop });
    const work =
      fix.do === 'create-base' ? makeBase(environment, fix, trans, tell, stop) : act(fix, props);
    work.then(
      () => {
        setMaking(null);
        environment.refresh();
      },
      (error: unknown) => {
        setMaking(null);
        setProblem(stop.signal.aborted ? null : error);
      }
    );
  };
  const inScript = state.fixes.filter((fix): fix is Redeclaring => cellOf(fix, props) >= 0);
  const last = state.fixes.find(fix => JSON.stringify(fix) === pressed);
  const unkept = last && insteadOf(last, props);
  const buttons = state.fixes.flatMap((fix, at) =>
    fix.do === 'ask' || inScript.some(one => one === fix) ? (
      []
    ) : (
      <Press
        key={JSON.stringify(fix)}
        look={at === 0 ? 'main' : 'plain'}
        onClick={() => press(fix)}
        title={titleOf(fix, props)}
      >
        {labelOf(fix, props)}
      </Press>
    )
  );
  const cells = inScript.map(fix => (
    <div key={JSON.stringify(fix)} className="jp-TorchOverlay-notice">
      <p>
        {fix.do === 'remove'
          ? trans.__(
              '%1 is declared in a # /// script cell. Remove it there, then save the notebook and restart its kernel.',
              fix.requirement
            )
          : trans.__(
              '%1 is declared in a # /// script cell. Write %2 there, then save the notebook and restart its kernel.',
              fix.name,
              fix.requirement
            )}
      </p>
      <Press
        look="link"
        onClick={() => void goToCell(environment.panel, cellOf(fix, props))}
        label={trans.__('Go to the cell that declares %1', fix.name)}
      >
        {trans.__('Go to the cell')}
      </Press>
    </div>
  ));
  const whom = state.fixes.map(
    fix =>
      fix.do === 'ask' && (
        <p key="ask" className="jp-TorchOverlay-notice">
          {trans.__(
            'Users cannot make bases on this system. Ask %1 for a base for %2.',
            fix.contact,
            spokenTag(fix.tag)
          )}
        </p>
      )
  );
  const told = problem !== null && <Problem failure={failureOf(problem)} trans={trans} />;
  if (state.bases?.length === 0 && failure.error === 'NoBaseFits') {
    return (
      <div className="jp-TorchOverlay-card" role="group" aria-label={trans.__('No base yet')}>
        <h4>{trans.__('No base yet')}</h4>
        <p>
          {trans.__(
            'torch is installed once on this machine, as a base that all notebooks share. There is none yet.'
          )}
        </p>
        <Machine {...props} />
        {whom}
        <div className="jp-TorchOverlay-buttons">{buttons}</div>
        {unkept}
        {told}
      </div>
    );
  }
  return (
    <>
      <Problem failure={failure} trans={trans}>
        {buttons}
      </Problem>
      {cells}
      {unkept}
      {whom}
      {told}
    </>
  );
}

/** The index of the `# /// script` cell in which to make a change; -1 where the panel makes it. */
function cellOf(fix: Fix, { environment: { panel } }: PanelProps): number {
  if (fix.do !== 'remove' && fix.do !== 'replace') {
    return -1;
  }
  const said = panel.model ? read(panel.model) : undefined;
  return extrasOf(said).some(extra => nameOf(extra) === fix.name)
    ? -1
    : scriptCell(panel, fix.name);
}

/** What a fix makes of the extras. */
function changeOf(fix: Redeclaring): Proposal['change'] {
  return extras =>
    declared(undeclared(extras, [fix.name]), fix.do === 'replace' ? [fix.requirement] : []);
}

/** What to tell in place of a fix that a text notebook would not keep; null: it would. */
function insteadOf(fix: Fix, { environment, trans }: PanelProps): React.ReactNode {
  const shared = { environment, trans };
  if (fix.do === 'remove' || fix.do === 'replace') {
    const commands = byHand(environment.panel, changeOf(fix));
    return commands && <Unkept {...shared} commands={commands} />;
  }
  if (home(environment.panel) === 'metadata') {
    return null;
  }
  switch (fix.do) {
    case 'lock':
      return (
        <Unkept
          {...shared}
          commands={[`rm ${quoted(`${fileName(environment.panel)}.lock.json`)}`]}
        />
      );
    case 'use-base':
      return Object.keys(fix.choose.torch_env).length > 0 ? (
        <UnkeptKeys {...shared} keys={fix.choose.torch_env} />
      ) : null;
    case 'reset':
      return (
        <p className="jp-TorchOverlay-notice">
          {trans.__(
            'jupytext drops what would be written into the metadata of %1. Remove "%2" from its YAML header.',
            environment.panel.title.label,
            fix.key
          )}
        </p>
      );
    default:
      return null;
  }
}

async function act(fix: Exclude<Pressed, { do: 'create-base' }>, props: PanelProps): Promise<void> {
  const { panel } = props.environment;
  const said = panel.model ? read(panel.model) : undefined;
  switch (fix.do) {
    case 'remove':
    case 'replace':
      await redeclare(props.environment, changeOf(fix), fix.do === 'remove' ? [fix.name] : []);
      return;
    case 'reset':
      if (fix.index === undefined) {
        say(panel, fix.key, undefined);
      } else if (panel.model) {
        write(
          panel.model,
          withExtras(
            said,
            extrasOf(said).filter((_, at) => at !== fix.index)
          )
        );
      }
      return;
    case 'use-base':
      return choose(panel, fix.choose, props.trans);
    case 'lock':
      say(panel, 'lock', undefined);
      return;
    case 'retry':
      return saveAndRestart(panel);
  }
}

function labelOf(fix: Pressed, { trans }: PanelProps): string {
  switch (fix.do) {
    case 'remove':
      return trans.__('Remove %1', fix.requirement);
    case 'replace':
      return trans.__('Use %1', fix.requirement);
    case 'reset':
      return fix.index === undefined
        ? trans.__('Remove "%1"', fix.key)
        : trans.__('Remove entry %1 of "%2"', fix.index + 1, fix.key);
    case 'use-base':
      return trans.__('Use %1', fix.base.replace(/-py\d+-[0-9a-f]+$/, ''));
    case 'create-base':
      return trans.__('Make a base for %1', spokenTag(fix.tag));
    case 'lock':
      return trans.__('Remove the lock');
    case 'retry':
      return trans.__('Try again');
  }
}

function titleOf(fix: Pressed, { trans }: PanelProps): string {
  switch (fix.do) {
    case 'replace':
      return trans.__('Writes it into this notebook, in place of %1', fix.name);
    case 'remove':
    case 'reset':
      return trans.__('Takes it out of this notebook; a restart then tries again');
    case 'use-base':
      return fix.choose.kernel
        ? trans.__('Starts the kernel %1 for this notebook', fix.choose.kernel)
        : trans.__('Writes it into this notebook');
    case 'create-base':
      return trans.__(
        'Fetches torch, once for all notebooks of yours: some hundred megabytes for the CPU, gigabytes for a GPU'
      );
    case 'lock':
      return trans.__('Its versions are then looked up again');
    case 'retry':
      return trans.__('Saves the notebook and restarts its kernel');
  }
}
