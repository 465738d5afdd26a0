import * as React from 'react';
import { plural, pylock, type Lock } from '../model/lock';
import type { Environment } from '../model/rest';
import { commandOf, quoted } from '../model/text';
import { fileName, home, read } from '../notebook/declarations';
import { say } from '../notebook/actions';
import { Busy, Press, Problem, Section, useAsked } from './parts';
import type { PanelProps } from './panelBody';
import { Unkept } from './unkept';

interface Made {
  lock: Lock;
  notices: string[];
}

/** The exact versions that a notebook carries. */
export function LockSection({ environment, trans, state }: PanelProps): React.JSX.Element {
  const making = useAsked(async (upgrade: boolean) => {
    const made = await environment.api.run<Made>('lock', { ...environment.subject(), upgrade });
    say(environment.panel, 'lock', made.lock);
    return made;
  });
  const lock = state.lock;
  const hint = {
    none: trans.__('none'),
    current: trans.__('locked'),
    stale: trans.__('older than the packages')
  }[lock.state];
  const told =
    lock.state === 'none'
      ? trans.__(
          'Its versions are chosen at each new start. Locked, it gets exactly the same ones everywhere.'
        )
      : trans.__('Locked to torch %1 and %2.', lock.torch ?? '', plural(lock.packages ?? 0, trans));
  return (
    <Section title={trans.__('Lock')} hint={hint}>
      <p>{told}</p>
      {home(environment.panel) !== 'metadata' ? (
        <Unkept
          environment={environment}
          trans={trans}
          commands={commandsOf(fileName(environment.panel), lock.state)}
        />
      ) : making.busy ? (
        <Busy text={trans.__('Looking up and checking every package …')} trans={trans} />
      ) : (
        <div className="jp-TorchOverlay-buttons">
          {lock.state !== 'current' && (
            <Press look="main" onClick={() => making.ask(false)}>
              {lock.state === 'none' ? trans.__('Lock') : trans.__('Lock again')}
            </Press>
          )}
          {lock.state !== 'none' && (
            <>
              <Press
                onClick={() => making.ask(true)}
                title={trans.__('Lock the newest versions that fit')}
              >
                {trans.__('Upgrade the lock')}
              </Press>
              <Press onClick={() => say(environment.panel, 'lock', undefined)}>
                {trans.__('Unlock')}
              </Press>
              <Press
                onClick={() =>
                  download(environment.panel.title.label, lockOf(environment.panel.model))
                }
              >
                {trans.__('Export')}
              </Press>
            </>
          )}
        </div>
      )}
      {making.failure && <Problem failure={making.failure} trans={trans} />}
      {making.value?.notices.map(notice => (
        <p key={notice} className="jp-TorchOverlay-notice">
          {notice}
        </p>
      ))}
    </Section>
  );
}

/** What the buttons do, for a text notebook: its lock is a file beside it. */
function commandsOf(notebook: string, state: Environment['lock']['state']): string[] {
  const words = state === 'current' ? ['--upgrade'] : [];
  return [
    commandOf('lock', notebook, words),
    ...(state === 'none'
      ? []
      : [
          commandOf('export', notebook, ['--format', 'pylock']),
          `rm ${quoted(`${notebook}.lock.json`)}`
        ])
  ];
}

function lockOf(model: PanelProps['environment']['panel']['model']): Lock | null {
  const said = model ? (read(model) as { lock?: Lock } | undefined) : undefined;
  return said?.lock ?? null;
}

function download(notebook: string, lock: Lock | null): void {
  if (!lock) {
    return;
  }
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([pylock(lock)], { type: 'application/toml' }));
  link.download = `pylock.${notebook.replace(/\.[^.]*$/, '').replace(/[^A-Za-z0-9_-]+/g, '-')}.toml`;
  link.click();
  URL.revokeObjectURL(link.href);
}
