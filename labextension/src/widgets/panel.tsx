import type { INotebookTracker } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import * as React from 'react';
import type { Environments } from '../environments';
import { environmentIcon } from '../icons';
import type { NotebookEnvironment } from '../notebook/environment';
import { PanelBody } from './panelBody';

/**
 * The panel "Environment": it follows the current notebook, and asks nothing while it is hidden. What was shown
 * of a notebook stays, hidden, so that the end of what was begun there is told when the notebook is shown again.
 */
export class EnvironmentPanel extends ReactWidget {
  private readonly _moved = new Signal<this, void>(this);
  private _environment: NotebookEnvironment | null = null;
  private _looked: NotebookEnvironment | null = null;
  private _leave: (() => void) | null = null;

  constructor(
    private readonly _notebooks: INotebookTracker,
    private readonly _environments: Environments,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.id = 'kernel-provisioner-environment';
    this.addClass('jp-TorchOverlay-panel');
    this.title.icon = environmentIcon;
    this.title.caption = this._trans.__('Environment: packages, torch and disk of this notebook');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', this._trans.__('Environment'));
    this._notebooks.currentChanged.connect(this._follow, this);
  }

  /** Lead the keyboard to a part of what is shown. */
  focusOn(selector: string): void {
    const page = this.node.querySelector('.jp-TorchOverlay-page:not([hidden])');
    page?.querySelector<HTMLElement>(selector)?.focus();
  }

  protected override render(): React.JSX.Element {
    return <Pages moved={this._moved} current={() => this._environment} trans={this._trans} />;
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this._follow();
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this._follow();
  }

  private _follow(): void {
    const panel = this._notebooks.currentWidget;
    const environment = panel ? this._environments.of(panel) : null;
    const looked = this.isVisible ? environment : null;
    if (looked !== this._looked) {
      this._leave?.();
      this._looked = looked;
      this._leave = looked?.look() ?? null;
    }
    if (this.isVisible && environment !== this._environment) {
      this._environment = environment;
      this._moved.emit();
    }
  }
}

/** A page for each notebook that was current while the panel was shown; that of the current one is seen. */
function Pages(props: {
  moved: Signal<EnvironmentPanel, void>;
  current: () => NotebookEnvironment | null;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { moved, current, trans } = props;
  const [shown, setShown] = React.useState<NotebookEnvironment[]>([]);
  React.useEffect(() => {
    const move = () =>
      setShown(before => {
        const now = current();
        const open = before.filter(one => !one.isDisposed);
        return now && !open.includes(now) ? [...open, now] : open;
      });
    move();
    moved.connect(move);
    return () => {
      moved.disconnect(move);
    };
  }, [moved, current]);
  return (
    <>
      {current() === null && <PanelBody environment={null} trans={trans} />}
      {shown.map(one => (
        <Page key={one.panel.id} environment={one} hidden={one !== current()} trans={trans} />
      ))}
    </>
  );
}

/** Draws again when something of its notebook has changed. */
function Page(props: {
  environment: NotebookEnvironment;
  hidden: boolean;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { environment, hidden, trans } = props;
  const [, draw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    environment.changed.connect(draw);
    return () => {
      environment.changed.disconnect(draw);
    };
  }, [environment]);
  return (
    <div className="jp-TorchOverlay-page" hidden={hidden}>
      <PanelBody environment={environment} trans={trans} />
    </div>
  );
}
