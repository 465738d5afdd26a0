import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { environmentIcon } from '../icons';
import { chipOf } from '../model/words';
import type { NotebookEnvironment } from '../notebook/environment';

/** The state of a notebook's environment in its toolbar; nothing for other kernels. A click shows more. */
export class ChipWidget extends ReactWidget {
  constructor(
    private readonly _environment: NotebookEnvironment,
    private readonly _trans: TranslationBundle,
    private readonly _open: () => void
  ) {
    super();
    this.addClass('jp-TorchOverlay-chipHost');
  }

  protected override render(): React.JSX.Element {
    return (
      <UseSignal signal={this._environment.changed}>
        {() => <Chip environment={this._environment} trans={this._trans} open={this._open} />}
      </UseSignal>
    );
  }
}

function Chip(props: {
  environment: NotebookEnvironment;
  trans: TranslationBundle;
  open: () => void;
}): React.JSX.Element | null {
  const state = props.environment.state;
  if (!state) {
    return null;
  }
  const chip = chipOf(state, props.trans);
  return (
    <button
      type="button"
      className={`jp-TorchOverlay-chip jp-mod-${chip.kind}`}
      title={chip.title ? `${chip.title}\n${props.trans.__('Show the environment')}` : ''}
      aria-label={props.trans.__('Environment: %1. Show it', chip.text)}
      onClick={props.open}
    >
      {chip.kind === 'busy' ? (
        <Ring fraction={chip.fraction} />
      ) : (
        <environmentIcon.react tag="span" className="jp-TorchOverlay-chipIcon" width="14px" />
      )}
      <span className="jp-TorchOverlay-chipText">{chip.text}</span>
    </button>
  );
}

/** How far something is, as a ring; one that turns where nobody knows. */
export function Ring({ fraction }: { fraction: number | null }): React.JSX.Element {
  const length = 2 * Math.PI * 6;
  const drawn = fraction ?? 0.25;
  return (
    <svg
      className={`jp-TorchOverlay-ring${fraction === null ? ' jp-mod-turning' : ''}`}
      viewBox="0 0 16 16"
      width="14"
      height="14"
      aria-hidden="true"
    >
      <circle cx="8" cy="8" r="6" className="jp-TorchOverlay-ringTrack" />
      <circle
        cx="8"
        cy="8"
        r="6"
        className="jp-TorchOverlay-ringDone"
        strokeDasharray={`${drawn * length} ${length}`}
        transform="rotate(-90 8 8)"
      />
    </svg>
  );
}
