import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import type { Change, Changes, Failure } from '../model/rest';
import { bytes, summary } from '../model/words';
import {
  apply,
  byHand,
  preview,
  takesPackages,
  type Applied,
  type Proposal
} from '../notebook/actions';
import type { NotebookEnvironment } from '../notebook/environment';
import { Busy, failureOf, Press, Problem } from './parts';
import { plainText } from '../model/ansi';
import { Unkept } from './unkept';

const SHOWN = 12; // changes that are listed at once

/** What was done, in a sentence, and how to take it back. */
export interface Done {
  text: string;
  /** Rejects where that could not be; null: there is nothing to take back. */
  undo: (() => Promise<void>) | null;
  /** What is left to run in a terminal. */
  commands: readonly string[];
}

/** A change before it is made: what it would do, and whether to do it. */
export function ProposalCard(props: {
  environment: NotebookEnvironment;
  proposal: Proposal;
  trans: TranslationBundle;
  /** Called at the end; `done` says what was done, and takes it back; null: nothing was. */
  close: (done: Done | null) => void;
  /** Called while the kernel and the notebook are being changed. */
  busy: (busy: boolean) => void;
  /** Propose the same of the package `meant`, where nobody knows the one called `name`. */
  correct: (name: string, meant: string) => void;
}): React.JSX.Element {
  const { environment, proposal, trans } = props;
  const close = () => props.close(null);
  const [changes, setChanges] = React.useState<Changes | null>(null);
  const [failure, setFailure] = React.useState<Failure | null>(null);
  const { field = '', meant = '' } = failure ?? {};
  const [installing, setInstalling] = React.useState(false);
  const commands = byHand(environment.panel, proposal.change);
  const installs = proposal.install.length > 0 && takesPackages(environment);
  const card = React.useRef<HTMLDivElement>(null);

  React.useEffect(() => {
    const stop = new AbortController();
    const before = document.activeElement;
    card.current?.focus();
    preview(environment, proposal, () => undefined, stop.signal).then(
      found => {
        if (!stop.signal.aborted) {
          setChanges(found);
        }
      },
      (error: unknown) => {
        if (!stop.signal.aborted) {
          setFailure(failureOf(error));
        }
      }
    );
    return () => {
      stop.abort();
      // What had the keyboard has it again, where this card had it until now.
      if (before instanceof HTMLElement && document.activeElement === document.body) {
        before.focus();
      }
    };
  }, [environment, proposal]);

  const confirm = async () => {
    setInstalling(true);
    props.busy(true);
    let done: Applied;
    try {
      done = await apply(environment, proposal);
    } catch (error) {
      setFailure(failureOf(error));
      return;
    } finally {
      setInstalling(false);
      props.busy(false);
    }
    if (done.ok && !done.now && !done.undo) {
      return; // no kernel was there any more, and the notebook keeps nothing
    }
    if (done.ok) {
      const text = done.now
        ? proposal.uninstall
          ? trans.__(
              '%1: done. What the kernel has imported of it stays until a restart.',
              proposal.title
            )
          : trans.__('%1: done. The running kernel has it.', proposal.title)
        : trans.__('%1: written into the notebook.', proposal.title);
      props.close({ text, undo: done.undo, commands: commands ?? [] });
    } else {
      const { what, traceback } = done.outcome;
      setFailure({ error: '', what, why: plainText(traceback.join('\n')), fix: '' });
    }
  };
  return (
    <div
      className="jp-TorchOverlay-card"
      role="group"
      aria-label={proposal.title}
      tabIndex={-1}
      ref={card}
      onKeyDown={event => {
        if (event.key === 'Escape' && !installing) {
          close();
        }
      }}
    >
      <h4>{proposal.title}</h4>
      {failure ? (
        <Problem failure={failure} trans={trans}>
          {meant && (
            <Press look="main" onClick={() => props.correct(field, meant)}>
              {trans.__('Use %1', meant)}
            </Press>
          )}
          <Press onClick={close}>{trans.__('Close')}</Press>
        </Problem>
      ) : installing ? (
        <Busy text={trans.__('Installing in the running kernel …')} trans={trans} />
      ) : changes === null ? (
        <Busy text={trans.__('Looking up what would change …')} trans={trans} onCancel={close} />
      ) : (
        <>
          <div role="status">
            {changes.waits ? (
              <p>
                {trans.__(
                  'A package has to be built from source. What it brings is known once it is built.'
                )}
              </p>
            ) : (
              <p>
                {changes.packages.length > 0
                  ? summary(changes.packages, trans)
                  : trans.__('Nothing has to be installed: this notebook’s declaration changes.')}
                {changes.bytes > 0 && ` · ${trans.__('%1 to fetch at most', bytes(changes.bytes))}`}
              </p>
            )}
          </div>
          <ChangeList changes={changes.packages} trans={trans} />
          {changes.notices.map(notice => (
            <p key={notice} className="jp-TorchOverlay-hint">
              {notice}
            </p>
          ))}
          {commands && <Unkept environment={environment} trans={trans} commands={commands} />}
          <div className="jp-TorchOverlay-buttons">
            {(!commands || installs) && (
              <Press look="main" onClick={() => void confirm()}>
                {commands ? trans.__('Install in the running kernel') : proposal.title}
              </Press>
            )}
            <Press onClick={close}>{trans.__('Cancel')}</Press>
          </div>
        </>
      )}
    </div>
  );
}

function ChangeList(props: {
  changes: Change[];
  trans: TranslationBundle;
}): React.JSX.Element | null {
  const { changes, trans } = props;
  const [all, setAll] = React.useState(false);
  if (changes.length === 0) {
    return null;
  }
  const shown = all ? changes : changes.slice(0, SHOWN);
  return (
    <ul className="jp-TorchOverlay-changes">
      {shown.map(change => (
        <li key={change.name} className={`jp-mod-${change.what}`}>
          <span className="jp-TorchOverlay-sign" aria-hidden="true">
            {SIGNS[change.what]}
          </span>
          <span>
            <code>{change.name}</code> {told(change, trans)}
          </span>
        </li>
      ))}
      {changes.length > shown.length && (
        <li>
          <Press look="link" onClick={() => setAll(true)}>
            {trans.__('%1 more', changes.length - shown.length)}
          </Press>
        </li>
      )}
    </ul>
  );
}

const SIGNS = { add: '+', upgrade: '↑', downgrade: '↓', replace: '⇄', remove: '−' } as const;

function told(change: Change, trans: TranslationBundle): string {
  switch (change.what) {
    case 'add':
      return change.to;
    case 'remove':
      return change.to
        ? trans.__('%1 goes, the base has %2', change.from, change.to)
        : trans.__('%1 goes', change.from);
    case 'replace':
      return trans.__("%1 in place of the base's %2", change.to, change.from);
    default:
      return trans.__('%1 → %2', change.from, change.to);
  }
}
