import type { NotebookPanel } from '@jupyterlab/notebook';
import { Token } from '@lumino/coreutils';
import { Signal, type ISignal } from '@lumino/signaling';
import { NotebookEnvironment } from './notebook/environment';
import type { Api } from './server/api';
import type { Events } from './server/events';

/** The environments of all open notebooks, which our plugins share. */
export const IEnvironments = new Token<Environments>(
  'kernel-provisioner:IEnvironments',
  'The environments of notebooks on shared torch.'
);

export class Environments {
  private readonly _changed = new Signal<this, NotebookEnvironment>(this);
  private readonly _known = new WeakMap<NotebookPanel, NotebookEnvironment>();

  constructor(
    readonly api: Api,
    readonly events: Events
  ) {}

  /** Something of one of them changed. */
  get changed(): ISignal<this, NotebookEnvironment> {
    return this._changed;
  }

  /** The environment of an open notebook. */
  of(panel: NotebookPanel): NotebookEnvironment {
    let known = this._known.get(panel);
    if (!known) {
      const made = new NotebookEnvironment(panel, this.api, this.events);
      made.changed.connect(() => this._changed.emit(made));
      panel.disposed.connect(() => this._changed.emit(made));
      known = made;
      this._known.set(panel, known);
    }
    return known;
  }
}
