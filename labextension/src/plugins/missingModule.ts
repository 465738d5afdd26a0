import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Clipboard, Notification } from '@jupyterlab/apputils';
import { ReactWidget } from '@jupyterlab/ui-components';
import { NotebookActions, INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { ITranslator, nullTranslator, type TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { IEnvironments, type Environments } from '../environments';
import { MIME_TYPE, parseMissing, type MissingModule as Missing } from '../model/missing';
import { extrasOf, nameOf } from '../model/requirements';
import { commandOf } from '../model/text';
import { addInKernel } from '../notebook/kernel';
import { declare, fileName, home, read } from '../notebook/declarations';
import { MissingPrompt, type Step } from '../widgets/missingPrompt';

/** Draws "Add seaborn" under the traceback of a module that is in no package of the notebook. */
export const missingModule: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:missing-module',
  description: 'Offers to add the package of a module that could not be imported.',
  autoStart: true,
  requires: [IRenderMimeRegistry, INotebookTracker, IEnvironments],
  optional: [ITranslator],
  activate: (
    _: JupyterFrontEnd,
    rendermime: IRenderMimeRegistry,
    notebooks: INotebookTracker,
    environments: Environments,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    rendermime.addFactory({
      safe: true,
      mimeTypes: [MIME_TYPE],
      // Before text/plain, which says the same without a button.
      defaultRank: 40,
      createRenderer: () => new MissingModule(notebooks, environments, trans)
    });
  }
};

class MissingModule extends ReactWidget implements IRenderMime.IRenderer {
  private _missing: Missing | null = null;
  private _plain = '';

  constructor(
    private readonly _notebooks: INotebookTracker,
    private readonly _environments: Environments,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-TorchOverlay-missing');
  }

  /** Called a second time where the notebook comes to be trusted. */
  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const plain = model.data['text/plain'];
    this._missing = parseMissing(model.data[MIME_TYPE]);
    this._plain = typeof plain === 'string' ? plain : '';
    this.update();
    return Promise.resolve();
  }

  protected override render(): React.JSX.Element {
    const missing = this._missing;
    if (!missing) {
      return React.createElement(React.Fragment, null, this._plain);
    }
    const panel = this._panel();
    return MissingPrompt({
      missing,
      declares: panel !== null && home(panel) === 'metadata',
      trans: this._trans,
      add: again => this._add(missing.distribution, again)
    });
  }

  /** Install the package in the running kernel, then declare it; and run the cell again where asked to. */
  private async *_add(distribution: string, again: boolean): AsyncGenerator<Step> {
    const trans = this._trans;
    const panel = this._panel();
    const kernel = panel?.sessionContext.session?.kernel;
    if (!panel?.model || !kernel) {
      yield {
        state: 'failed',
        text: trans.__('This notebook has no kernel now: start one, then try again.')
      };
      return;
    }
    yield { state: 'busy', text: trans.__('Adding %1 …', distribution) };
    const said = extrasOf(read(panel.model));
    const inCells = this._environments.of(panel).state?.extras ?? [];
    const declared = [...said, ...inCells].find(extra => nameOf(extra) === nameOf(distribution));
    const outcome = await addInKernel(kernel, [declared ?? distribution], trans);
    if (!outcome.ok) {
      yield { state: 'failed', text: outcome.what, detail: outcome.traceback };
      return;
    }
    const kept = declared !== undefined || home(panel) === 'metadata';
    if (!kept) {
      this._tellUnkept(panel, distribution);
    } else if (declared === undefined) {
      declare(panel.model, [distribution]);
    }
    const text = kept
      ? trans.__('%1 is added, and declared in this notebook.', distribution)
      : trans.__('%1 is added to the running kernel.', distribution);
    yield { state: 'done', text: again ? text : `${text} ${trans.__('Run the cell again.')}` };
    if (again) {
      await this._runAgain(panel);
    }
  }

  /** Not in the output, which goes where the cell is run again. JupyterLab shows 140 characters of it. */
  private _tellUnkept(panel: NotebookPanel, distribution: string): void {
    const trans = this._trans;
    if (home(panel) === 'nowhere') {
      const text = trans.__(
        '%1 is not declared: jupytext would drop it, and this format cannot declare packages.',
        distribution
      );
      Notification.warning(text, { autoClose: false });
      return;
    }
    const command = commandOf('add', fileName(panel), [distribution]);
    const text = trans.__(
      '%1 is not declared: jupytext would drop it. Save the notebook, then run: %2',
      distribution,
      command
    );
    const copy = {
      label: trans.__('Copy Command'),
      callback: () => Clipboard.copyToSystem(command)
    };
    Notification.warning(text, { autoClose: false, actions: [copy] });
  }

  /** Run the cell of this output; whoever has gone on to another one meanwhile stays there, and goes on typing. */
  private async _runAgain(panel: NotebookPanel): Promise<void> {
    const notebook = panel.content;
    const cell = notebook.widgets.find(one => one.node.contains(this.node));
    if (cell) {
      const types = notebook.activeCell?.editor?.hasFocus() === true;
      const run = NotebookActions.runCells(notebook, [cell], panel.sessionContext);
      if (types) {
        notebook.mode = 'edit';
      }
      await run;
    }
  }

  private _panel(): NotebookPanel | null {
    return this._notebooks.find(panel => panel.node.contains(this.node)) ?? null;
  }
}
