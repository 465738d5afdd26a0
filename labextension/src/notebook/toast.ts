import { Notification } from '@jupyterlab/apputils';
import { Speed } from '../model/speed';
import type { Step } from '../model/rest';
import { stepText, type Words } from '../model/words';

/** Milliseconds after which work is worth a toast: most builds have ended by then. */
const SHORT = 1500;

/** Milliseconds for which its end is shown. */
const END = 5000;

/** Long work, told in a corner while it lasts, with a way to cancel it. */
export class Toast {
  private readonly _speed = new Speed();
  private readonly _begun = Date.now();
  private _id = '';
  private _ended = false;

  constructor(
    private readonly _title: string,
    private readonly _trans: Words,
    private readonly _cancel: () => void
  ) {}

  /** A step of the work. */
  step(step: Step): void {
    const speed = this._speed.at(step.bytes ?? 0, Date.now() / 1000);
    const message = `${this._title}: ${stepText(step, speed, this._trans)}`;
    if (this._ended || (!this._id && Date.now() - this._begun < SHORT)) {
      return;
    }
    const actions = [
      {
        label: this._trans.__('Cancel'),
        displayType: 'warn' as const,
        callback: (event: MouseEvent) => {
          event.preventDefault(); // the toast stays, and tells the end
          this._cancel();
        }
      }
    ];
    const options = { autoClose: false as const, actions };
    if (this._id && Notification.manager.has(this._id)) {
      Notification.update({ id: this._id, message, type: 'in-progress', ...options });
    } else if (!this._id) {
      this._id = Notification.emit(message, 'in-progress', options);
    }
  }

  /** It has ended. */
  end(type: 'success' | 'error' | 'info', text: string): void {
    if (!this._ended && this._id && Notification.manager.has(this._id)) {
      const message = `${this._title}: ${text}`;
      Notification.update({ id: this._id, message, type, autoClose: END, actions: [] });
    }
    this._ended = true;
  }
}
