import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { CommandIDs } from '../commands';
import { IEnvironments, type Environments } from '../environments';
import { StatusWidget } from '../widgets/status';

/** The build of the current notebook's environment in the status bar, which Notebook 7 has not. */
export const status: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:status',
  description: 'Shows the build of the current notebook’s environment in the status bar.',
  autoStart: true,
  requires: [IEnvironments, INotebookTracker],
  optional: [IStatusBar, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    environments: Environments,
    notebooks: INotebookTracker,
    bar: IStatusBar | null,
    translator: ITranslator | null
  ) => {
    if (bar) {
      const trans = (translator ?? nullTranslator).load('kernel_provisioner');
      const item = new StatusWidget(notebooks, environments, trans, () => {
        void app.commands.execute(CommandIDs.show);
      });
      bar.registerStatusItem(status.id, {
        item,
        align: 'left',
        rank: 50,
        isActive: () => item.step !== null,
        activeStateChanged: item.changed
      });
    }
  }
};
