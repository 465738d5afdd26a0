import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ReactWidget } from '@jupyterlab/ui-components';
import { NotebookActions, INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { ITranslator, nullTranslator, type TranslationBundle } from '@jupyterlab/translation';
import { Panel } from '@lumino/widgets';
import { MIME_TYPE, parseMissing } from '../model/missing';
import { addInKernel } from '../notebook/kernel';
import { declare } from '../notebook/declarations';
import { MissingPrompt, type Step } from '../widgets/missingPrompt';

/** Draws "Add seaborn" under the traceback of a module that is in no package of the notebook. */
export const missingModule: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:missing-module',
  description: 'Offers to add the package of a module that could not be imported.',
  autoStart: true,
  requires: [IRenderMimeRegistry, INotebookTracker],
  optional: [ITranslator],
  activate: (
    _: JupyterFrontEnd,
    rendermime: IRenderMimeRegistry,
    notebooks: INotebookTracker,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    rendermime.addFactory({
      safe: true,
      mimeTypes: [MIME_TYPE],
      // Before text/plain, which says the same without a button.
      defaultRank: 40,
      createRenderer: () => new MissingModule(notebooks, trans)
    });
  }
};

class MissingModule extends Panel implements IRenderMime.IRenderer {
  constructor(
    private readonly _notebooks: INotebookTracker,
    private readonly _trans: TranslationBundle
  ) {
    super();
    this.addClass('jp-TorchOverlay-missing');
  }

  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const missing = parseMissing(model.data[MIME_TYPE]);
    const plain = model.data['text/plain'];
    if (!missing) {
      this.node.textContent = typeof plain === 'string' ? plain : '';
      return Promise.resolve();
    }
    const body = ReactWidget.create(
      MissingPrompt({
        missing,
        trans: this._trans,
        add: again => this._add(missing.distribution, again)
      })
    );
    this.addWidget(body);
    return Promise.resolve();
  }

  /** Install the package in the running kernel, then declare it; and run the cell again where asked to. */
  private async *_add(distribution: string, again: boolean): AsyncGenerator<Step> {
    const panel = this._panel();
    const kernel = panel?.sessionContext.session?.kernel;
    if (!panel?.model || !kernel) {
      yield {
        state: 'failed',
        text: this._trans.__('This notebook has no kernel now: start one, then try again.')
      };
      return;
    }
    yield { state: 'busy', text: this._trans.__('Adding %1 …', distribution) };
    const outcome = await addInKernel(kernel, [distribution], this._trans);
    if (!outcome.ok) {
      yield { state: 'failed', text: outcome.what, detail: outcome.traceback };
      return;
    }
    declare(panel.model, [distribution]);
    yield {
      state: 'done',
      text: again
        ? this._trans.__('%1 is added, and declared in this notebook.', distribution)
        : this._trans.__(
            '%1 is added, and declared in this notebook. Run the cell again.',
            distribution
          )
    };
    if (again) {
      await this._runAgain(panel);
    }
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
