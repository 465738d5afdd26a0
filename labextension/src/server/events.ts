import type { Event } from '@jupyterlab/services';
import { Signal, type ISignal } from '@lumino/signaling';

/** Milliseconds after which to ask again: while events come, and where none has come yet. */
const PATIENCE = { heard: 4000, deaf: 700 };

/** One event of ours. */
export type Emission = Readonly<Record<string, unknown>>;

/**
 * The events of the server extension. Behind some proxies none come: whoever waits here is woken after a
 * while in any case, and asks.
 */
export class Events {
  private readonly _emitted = new Signal<this, Emission>(this);
  private _heard = false;

  constructor(manager: Event.IManager | undefined) {
    manager?.stream.connect((_, emission) => {
      if (emission['schema_id'].startsWith('urn:kernel-provisioner:')) {
        this._heard = true;
        this._emitted.emit(emission);
      }
    });
  }

  /** Each event of ours. */
  get emitted(): ISignal<this, Emission> {
    return this._emitted;
  }

  /** Wait for an event that fits, or as long as is worth waiting; never rejects. */
  next(schema: string, fits: (data: Emission) => boolean, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const end = () => {
        clearTimeout(timer);
        this._emitted.disconnect(slot);
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const slot = (_: unknown, data: Emission) => {
        if (data['schema_id'] === schema && fits(data)) {
          end();
        }
      };
      const timer = setTimeout(end, this._heard ? PATIENCE.heard : PATIENCE.deaf);
      this._emitted.connect(slot);
      signal?.addEventListener('abort', end);
    });
  }
}
