import * as React from 'react';
import type { Changes } from '../model/rest';
import type { NotebookEnvironment } from '../notebook/environment';
import { Press, useAsked } from './parts';
import type { PanelProps } from './panelBody';

/** Ask the index, when told to, which of the declared packages have newer versions that fit. */
export function NewerCheck(props: {
  environment: NotebookEnvironment;
  trans: PanelProps['trans'];
  found: Record<string, string> | null;
  tell: (found: Record<string, string>) => void;
  upgradeAll: () => void;
  /** What is declared; the rest follows it. */
  names: string[];
}): React.JSX.Element {
  const { environment, trans, found, tell, upgradeAll, names } = props;
  const check = useAsked(async () => {
    const body = { ...environment.subject(), upgrade: true };
    const changes = await environment.api.run<Changes>('changes', body);
    const upgrades = changes.packages.filter(
      change => change.what === 'upgrade' && names.includes(change.name)
    );
    tell(Object.fromEntries(upgrades.map(change => [change.name, change.to])));
  });
  const text = check.busy
    ? trans.__('Looking for newer versions …')
    : found === null
      ? ''
      : Object.keys(found).length === 0
        ? trans.__('All are as new as this notebook lets them be.')
        : trans._n(
            '%1 newer version',
            '%1 newer versions',
            Object.keys(found).length,
            Object.keys(found).length
          );
  return (
    <div className="jp-TorchOverlay-line">
      <Press look="link" onClick={check.ask} disabled={check.busy}>
        {trans.__('Look for newer versions')}
      </Press>
      <span role="status" className="jp-TorchOverlay-hint">
        {check.failure ? check.failure.what : text}
      </span>
      {found !== null && Object.keys(found).length > 1 && (
        <Press onClick={upgradeAll}>{trans.__('Upgrade all')}</Press>
      )}
    </div>
  );
}
