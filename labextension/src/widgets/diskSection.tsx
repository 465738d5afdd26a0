import * as React from 'react';
import type { DiskUse, Pruned } from '../model/rest';
import { bytes } from '../model/words';
import { Busy, Press, Problem, Section, useAsked } from './parts';
import type { PanelProps } from './panelBody';

/** What this notebook and all others take on disk, and what could go. */
export function DiskSection({ environment, trans, state }: PanelProps): React.JSX.Element {
  const use = useAsked(() => environment.api.get<DiskUse>('disk'));
  const trial = useAsked(() => environment.api.run<Pruned>('prune', { dry_run: true }));
  const prune = useAsked(async () => {
    const done = await environment.api.run<Pruned>('prune', { dry_run: false });
    use.ask();
    return done;
  });
  const own = use.value?.environments.find(one => one.path === state.overlay.path);
  return (
    <Section title={trans.__('Disk')} onOpen={use.ask}>
      {use.failure && <Problem failure={use.failure} trans={trans} />}
      {use.value ? (
        <dl className="jp-TorchOverlay-facts">
          <dt>{trans.__('This notebook')}</dt>
          <dd>
            {own
              ? trans.__(
                  '%1 of its own, %2 in links to the wheel store',
                  bytes(own.own_bytes),
                  bytes(own.store_bytes + own.linked_bytes)
                )
              : trans.__('nothing yet')}
          </dd>
          <dt>{trans.__('Its base')}</dt>
          <dd>{trans.__('%1, shared', bytes(state.base?.bytes ?? 0))}</dd>
          <dt>{trans.__('All notebooks')}</dt>
          <dd>
            {trans.__(
              '%1 in all; %2 less than with an environment for each',
              bytes(use.value.shared_bytes),
              bytes(Math.max(use.value.private_bytes - use.value.shared_bytes, 0))
            )}
          </dd>
        </dl>
      ) : (
        use.busy && <Busy text={trans.__('Measuring …')} trans={trans} />
      )}
      {trial.busy || prune.busy ? (
        <Busy text={trans.__('Looking for unused environments …')} trans={trans} />
      ) : prune.value ? (
        <p role="status">
          {trans.__('Removed %1, %2 freed.', prune.value.removed.length, freed(prune.value))}
        </p>
      ) : trial.value ? (
        <Trial found={trial.value} trans={trans} remove={prune.ask} />
      ) : (
        <div className="jp-TorchOverlay-buttons">
          <Press onClick={trial.ask} title={trans.__('Nothing is removed before you confirm')}>
            {trans.__('Find unused environments')}
          </Press>
        </div>
      )}
      {[trial.failure, prune.failure].map(
        (failure, at) => failure && <Problem key={at} failure={failure} trans={trans} />
      )}
    </Section>
  );
}

function Trial(props: {
  found: Pruned;
  trans: PanelProps['trans'];
  remove: () => void;
}): React.JSX.Element {
  const { found, trans, remove } = props;
  if (found.removed.length === 0) {
    return <p role="status">{trans.__('There is none that is not needed.')}</p>;
  }
  return (
    <div className="jp-TorchOverlay-card" role="group" aria-label={trans.__('Unused environments')}>
      <ul className="jp-TorchOverlay-changes">
        {found.removed.map(one => (
          <li key={one.path}>
            <span>
              <code>{one.notebook ?? one.path}</code> {one.reason} · {bytes(one.own_bytes)}
            </span>
          </li>
        ))}
      </ul>
      <div className="jp-TorchOverlay-buttons">
        <Press look="danger" onClick={remove}>
          {trans.__('Remove %1 (%2)', found.removed.length, freed(found))}
        </Press>
      </div>
    </div>
  );
}

function freed(found: Pruned): string {
  return bytes(found.removed.reduce((sum, one) => sum + one.own_bytes, 0));
}
