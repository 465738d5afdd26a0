import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Signal, type ISignal } from '@lumino/signaling';
import type { Failure, Task } from '../model/rest';
import type { Events } from './events';

/** The server refused, or could not be asked. `failure` has cause and fix where the server tells them. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly failure: Failure | null = null
  ) {
    super(message);
  }
}

/** Nobody answered: the network is gone, the server, or a proxy's way to it. */
export class Unreachable extends ApiError {}

/** What a proxy answers with whose server does not. */
const OF_PROXIES = [502, 503, 504];

/** Asks the server extension; `settings` bring base URL, token and XSRF. */
export class Api {
  private readonly _lost = new Signal<this, void>(this);

  constructor(
    private readonly _settings: ServerConnection.ISettings,
    private readonly _events: Events,
    readonly trans: TranslationBundle
  ) {}

  /** The server could not be reached. */
  get lost(): ISignal<this, void> {
    return this._lost;
  }

  get<T>(path: string): Promise<T> {
    return this._ask('GET', path);
  }

  post<T>(path: string, body: unknown): Promise<T> {
    return this._ask('POST', path, body);
  }

  /**
   * Begin long work and wait for its end; `onStep` hears how it goes. Aborted, it is cancelled. While the
   * server cannot be reached, it goes on there, and is asked about again.
   */
  async run<T>(
    path: string,
    body: unknown,
    onStep: (task: Task<T>) => void = () => undefined,
    signal?: AbortSignal
  ): Promise<T> {
    let task = await this.post<Task<T>>(path, body);
    const place = `tasks/${task.id}`;
    while (task.state === 'running') {
      onStep(task);
      await this._events.next(
        'urn:kernel-provisioner:task',
        data => data['id'] === task.id,
        signal
      );
      if (signal?.aborted) {
        await this._ask('DELETE', place);
        throw new ApiError(0, 'cancelled');
      }
      task = await this.get<Task<T>>(place).catch((error: unknown) => {
        if (error instanceof Unreachable) {
          return task;
        }
        throw error;
      });
    }
    if (task.state !== 'done') {
      throw new ApiError(0, task.error?.what ?? task.state, task.error);
    }
    return task.result as T;
  }

  private async _ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    const url = URLExt.join(this._settings.baseUrl, 'torch-overlay', path);
    const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(url, init, this._settings);
    } catch {
      throw this._unreachable(0);
    }
    if (OF_PROXIES.includes(response.status)) {
      throw this._unreachable(response.status);
    }
    const text = await response.text();
    const data = parsed(text);
    if (!response.ok) {
      const told = data as (Failure & { message?: string }) | null;
      const failure = told?.what ? told : null;
      const off = response.status === 404 && !told?.message;
      const message = off
        ? this.trans.__(
            'This server does not tell of environments: its extension kernel_provisioner.server is off.'
          )
        : (told?.message ?? response.statusText);
      throw new ApiError(response.status, message, failure);
    }
    return data as T;
  }

  private _unreachable(status: number): Unreachable {
    this._lost.emit();
    return new Unreachable(status, this.trans.__('The server cannot be reached.'));
  }
}

function parsed(text: string): unknown {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}
