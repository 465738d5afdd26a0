import type { INotebookTracker } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import { Signal, type ISignal } from '@lumino/signaling';
import * as React from 'react';
import type { Environments } from '../environments';
import type { Step } from '../model/rest';
import { stepText } from '../model/words';
import { Ring } from './chip';

/** What is being installed for the current notebook; nothing where nothing is. */
export class StatusWidget extends ReactWidget {
  private readonly _changed = new Signal<this, void>(this);

  constructor(
    private readonly _notebooks: INotebookTracker,
    private readonly _environments: Environments,
    private readonly _trans: TranslationBundle,
    private readonly _open: () => void
  ) {
    super();
    this._notebooks.currentChanged.connect(() => this._changed.emit());
    this._environments.changed.connect((_, environment) => {
      if (environment.panel === this._notebooks.currentWidget) {
        this._changed.emit();
      }
    });
  }

  /** What is said may have changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** What is being done now; null: nothing. */
  get step(): Step | null {
    const current = this._notebooks.currentWidget;
    return current ? (this._environments.of(current).state?.progress ?? null) : null;
  }

  protected override render(): React.JSX.Element {
    return <UseSignal signal={this._changed}>{() => this._draw()}</UseSignal>;
  }

  private _draw(): React.JSX.Element | null {
    const step = this.step;
    if (!step) {
      return null;
    }
    const { done = 0, total = 0 } = step;
    return (
      <button
        type="button"
        className="jp-TorchOverlay-status"
        title={this._trans.__('Show the environment')}
        onClick={this._open}
      >
        <Ring fraction={total > 0 ? Math.min(done / total, 1) : null} />
        <span>{stepText(step, 0, this._trans)}</span>
      </button>
    );
  }
}
