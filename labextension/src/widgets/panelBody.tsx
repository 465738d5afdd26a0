import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import type { Environment } from '../model/rest';
import { pendingText, stepText } from '../model/words';
import { saveAndRestart } from '../notebook/actions';
import type { NotebookEnvironment } from '../notebook/environment';
import { BaseSection } from './baseSection';
import { DiskSection } from './diskSection';
import { FailureCard } from './failureCard';
import { LockSection } from './lockSection';
import { LogSection } from './logSection';
import { PackagesSection } from './packagesSection';
import { Busy, Press, Problem, useAsked } from './parts';

/** What each part of the panel is given. */
export interface PanelProps {
  environment: NotebookEnvironment;
  trans: TranslationBundle;
  state: Environment;
}

/** The panel for one notebook; null: none is open, or it runs on another's kernel. */
export function PanelBody(props: {
  environment: NotebookEnvironment | null;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { environment, trans } = props;
  const state = environment?.state;
  if (!environment || !environment.kernel) {
    return (
      <p className="jp-TorchOverlay-empty">
        {trans.__(
          'Open a notebook with a kernel called "torch" to see and change what it runs on.'
        )}
      </p>
    );
  }
  if (!state) {
    return environment.error ? (
      <div className="jp-TorchOverlay-empty" role="alert">
        <p>{environment.error.message}</p>
        <Press onClick={() => environment.refresh()}>{trans.__('Try again')}</Press>
      </div>
    ) : (
      <Busy text={trans.__('Looking at the notebook …')} trans={trans} />
    );
  }
  const shared: PanelProps = { environment, trans, state };
  return (
    <>
      <h2 className="jp-TorchOverlay-notebook" title={environment.panel.context.path}>
        {environment.panel.title.label}
      </h2>
      {environment.error && (
        <p className="jp-TorchOverlay-notice" role="status">
          {environment.error.message}{' '}
          {trans.__('The panel shows the last known state, and keeps trying.')}
        </p>
      )}
      <Standing {...shared} />
      <FailureCard {...shared} />
      {state.notices.map(notice => (
        <p key={notice} className="jp-TorchOverlay-notice">
          {notice}
        </p>
      ))}
      <PackagesSection {...shared} />
      <BaseSection {...shared} />
      <LockSection {...shared} />
      <DiskSection {...shared} />
      <LogSection {...shared} />
    </>
  );
}

/** What is going on: a build, or a restart that would change something. */
function Standing({ environment, trans, state }: PanelProps): React.JSX.Element | null {
  const restart = useAsked(() => saveAndRestart(environment.panel));
  if (state.progress) {
    const { done = 0, total = 0 } = state.progress;
    return (
      <Busy
        text={stepText(state.progress, 0, trans)}
        fraction={total > 0 ? done / total : null}
        trans={trans}
        onCancel={() => void environment.cancel().catch(() => environment.refresh())}
      />
    );
  }
  const running = state.running;
  if (running && running.pending.length > 0 && !state.failure) {
    return (
      <div className="jp-TorchOverlay-card jp-mod-pending" role="status">
        <p>{pendingText(state, trans)}</p>
        <div className="jp-TorchOverlay-buttons">
          <Press
            look="main"
            disabled={restart.busy}
            title={trans.__('Save this notebook and restart its kernel: variables are lost')}
            onClick={restart.ask}
          >
            {trans.__('Restart now')}
          </Press>
        </div>
        {restart.failure && <Problem failure={restart.failure} trans={trans} />}
      </div>
    );
  }
  return null;
}
