import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import * as React from 'react';
import type { Environments } from '../environments';
import { environmentIcon } from '../icons';
import type { NotebookEnvironment } from '../notebook/environment';
import { PanelBody } from './panelBody';

/** The panel "Environment": it follows the current notebook, and asks nothing while it is hidden. */
export class EnvironmentPanel extends ReactWidget {
  private readonly _moved = new Signal<this, void>(this);
  private _environment: NotebookEnvironment | null = null;
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

  protected override render(): React.JSX.Element {
    return <Following moved={this._moved} current={() => this._environment} trans={this._trans} />;
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
    const panel: NotebookPanel | null = this.isVisible ? this._notebooks.currentWidget : null;
    const environment = panel ? this._environments.of(panel) : null;
    if (environment !== this._environment) {
      this._leave?.();
      this._environment = environment;
      this._leave = environment?.look() ?? null;
      this._moved.emit();
    }
  }
}

/** Draws again when another notebook is current, or something of the current one has changed. */
function Following(props: {
  moved: Signal<EnvironmentPanel, void>;
  current: () => NotebookEnvironment | null;
  trans: TranslationBundle;
}): React.JSX.Element {
  const { moved, current, trans } = props;
  const [environment, setEnvironment] = React.useState(current);
  const [, draw] = React.useReducer((count: number) => count + 1, 0);
  React.useEffect(() => {
    const move = () => setEnvironment(current());
    moved.connect(move);
    return () => {
      moved.disconnect(move);
    };
  }, [moved, current]);
  React.useEffect(() => {
    environment?.changed.connect(draw);
    return () => {
      environment?.changed.disconnect(draw);
    };
  }, [environment]);
  const key = environment ? environment.panel.id : 'none';
  return <PanelBody key={key} environment={environment} trans={trans} />;
}
