import type { ISessionContext } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { Debouncer } from '@lumino/polling';
import { Signal, type ISignal } from '@lumino/signaling';
import type { IDisposable } from '@lumino/disposable';
import { KEY } from '../model/requirements';
import type { Content, Environment, Step } from '../model/rest';
import { ApiError, Unreachable, type Api } from '../server/api';
import type { Emission, Events } from '../server/events';
import { kernelName } from './kernel';

/** Milliseconds in which changes that follow each other are one. */
const QUIET = 250;

/** Key of a notebook's metadata under which juv keeps its lock, which the server reads too. */
const JUV_KEY = 'uv.lock';

/**
 * The environment of one open notebook: asked for when its kernel or its declarations change, and while it
 * is being built. With nobody looking (`looked` is 0) only the little is asked that the chip shows.
 */
export class NotebookEnvironment implements IDisposable {
  private readonly _changed = new Signal<this, void>(this);
  private readonly _refresh: Debouncer;
  private _state: Environment | null = null;
  private _error: ApiError | null = null;
  private _disposed = false;
  private _asked = 0;
  private _looked = 0;
  private _following = false;

  constructor(
    readonly panel: NotebookPanel,
    readonly api: Api,
    private readonly _events: Events
  ) {
    this._refresh = new Debouncer(() => this.ask(), QUIET);
    const context = panel.sessionContext;
    context.kernelChanged.connect(this.refresh, this);
    context.connectionStatusChanged.connect(this.refresh, this);
    context.statusChanged.connect(this._onStatus, this);
    panel.context.pathChanged.connect(this.refresh, this);
    panel.context.fileChanged.connect(this.refresh, this);
    panel.model?.metadataChanged.connect((_, change) => {
      if (change.key === KEY) {
        this.refresh();
      }
    });
    this._events.emitted.connect(this._onEvent, this);
    api.lost.connect(this._onLost, this);
    panel.disposed.connect(() => this.dispose());
    void context.ready.then(() => this.refresh());
  }

  /** The last known state; null where the notebook is on no kernel of ours, or nothing is known yet. */
  get state(): Environment | null {
    return this.kernel ? this._state : null;
  }

  /** Why nothing is known, or nothing newer than `state`; null where that is how things are. */
  get error(): ApiError | null {
    return this._error;
  }

  /** `state` or `error` changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The notebook's kernel if it is one of ours; else empty. */
  get kernel(): string {
    return this._disposed ? '' : kernelName(this.panel.sessionContext);
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  dispose(): void {
    if (!this._disposed) {
      this._disposed = true;
      this._refresh.dispose();
      this._events.emitted.disconnect(this._onEvent, this);
      this.api.lost.disconnect(this._onLost, this);
      Signal.clearData(this);
    }
  }

  /** Whether somebody looks at the packages. */
  get isLookedAt(): boolean {
    return this._looked > 0;
  }

  /** Somebody looks at the packages from now on; call what comes back when they no longer do. */
  look(): () => void {
    this._looked += 1;
    this.refresh();
    return () => {
      this._looked -= 1;
    };
  }

  /** Ask the server soon. */
  refresh(): void {
    if (!this._disposed) {
      void this._refresh.invoke().catch(() => undefined);
    }
  }

  /** Ask the server now. What was asked later alone becomes the state. */
  async ask(): Promise<void> {
    const number = ++this._asked;
    let state: Environment | null = null;
    let failure: ApiError | null = null;
    try {
      state = await this.learn();
    } catch (error) {
      failure = error instanceof ApiError ? error : new ApiError(0, String(error));
    }
    if (number === this._asked && !this._disposed) {
      const { packages, bases } = this._state ?? {};
      const details = { ...(packages && { packages }), ...(bases && { bases }) };
      const known = state && { ...details, ...state }; // what was not asked for is as it was
      this._set(failure instanceof Unreachable ? this._state : known, failure);
      void this._follow();
    }
  }

  /** What the server tells now; null where the notebook is on no kernel of ours. Rejects with an ApiError. */
  async learn(): Promise<Environment | null> {
    if (!this.kernel || !this.panel.model) {
      return null;
    }
    const body = { ...this.subject(), details: this.isLookedAt };
    return this.api
      .post<Environment>('environment', body)
      .catch((error: unknown) => this._withoutKernel(error, body));
  }

  /** Cancel the build that is under way; its cells fail and say so. */
  async cancel(): Promise<void> {
    await this.api.post('build/cancel', this.subject());
    this.refresh();
  }

  /** What the server has to know of this notebook; with other declarations where they are given. */
  subject(torchEnv?: unknown): Record<string, unknown> {
    const kernel = this.panel.sessionContext.session?.kernel;
    return {
      path: this.panel.context.localPath,
      kernel: this.kernel,
      content: this._content(torchEnv),
      ...(kernel && kernel.status !== 'dead' ? { kernel_id: kernel.id } : {})
    };
  }

  /** A kernel that ended just now is unknown to the server: what it would be told without it. */
  private _withoutKernel(error: unknown, body: Record<string, unknown>): Promise<Environment> {
    if (error instanceof ApiError && error.status === 404 && 'kernel_id' in body) {
      const { kernel_id: _, ...rest } = body;
      return this.api.post<Environment>('environment', rest);
    }
    throw error;
  }

  /**
   * While a build is under way, or somebody looks and the server cannot be reached: ask again with each event
   * of the build, or after a while.
   */
  private async _follow(): Promise<void> {
    if (this._following) {
      return;
    }
    this._following = true;
    try {
      while (this._owes()) {
        await this._events.next('urn:kernel-provisioner:build', data => this._isEnd(data));
        if (this._owes()) {
          // a cell that ended meanwhile may have asked
          await this.ask();
        }
      }
    } finally {
      this._following = false;
    }
  }

  /** Whether what is known is not how things will stay. */
  private _owes(): boolean {
    return !this._disposed && (!!this.state?.progress || (this._lost && this.isLookedAt));
  }

  /** Nobody answered when this was last asked. */
  private get _lost(): boolean {
    return this._error instanceof Unreachable;
  }

  private _isEnd(data: Emission): boolean {
    return data['notebook'] === this.panel.context.localPath && data['state'] !== 'building';
  }

  private _onEvent(_: unknown, data: Emission): void {
    const ours = data['notebook'] === this.panel.context.localPath && data['state'] === 'building';
    if (ours && this._state?.progress) {
      this._set({ ...this._state, progress: data as unknown as Step }, null);
    }
  }

  /** Whoever looks is told, and told of the end: this is asked until it is answered. */
  private _onLost(): void {
    if (this.isLookedAt && !this._lost) {
      this.refresh();
    }
  }

  private _onStatus(_: ISessionContext, status: string): void {
    if (['starting', 'restarting', 'autorestarting', 'dead'].includes(status)) {
      this.refresh();
    } else if (status === 'idle' && (this._state?.running?.entered !== true || this.isLookedAt)) {
      this.refresh(); // the first cell may have moved the packages in, any other may install some
    }
  }

  private _content(torchEnv?: unknown): Content {
    const model = this.panel.model;
    const metadata: Record<string, unknown> = {};
    for (const [key, value] of [
      [KEY, torchEnv === undefined ? model?.getMetadata(KEY) : torchEnv],
      [JUV_KEY, model?.getMetadata(JUV_KEY)]
    ] as const) {
      if (value !== undefined && value !== null) {
        metadata[key] = value;
      }
    }
    const cells: Content['cells'] = [];
    for (const cell of model?.cells ?? []) {
      const source = cell.type === 'code' ? cell.sharedModel.getSource() : '';
      if (source.includes('# /// script')) {
        cells.push({ cell_type: 'code', source });
      }
    }
    return { metadata, cells };
  }

  private _set(state: Environment | null, error: ApiError | null): void {
    this._state = state;
    this._error = error;
    this._changed.emit();
  }
}
