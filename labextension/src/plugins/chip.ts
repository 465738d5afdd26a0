import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { CommandIDs } from '../commands';
import { IEnvironments, type Environments } from '../environments';
import { ChipWidget } from '../widgets/chip';

/** The state of a notebook's environment in its toolbar. */
export const chip: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:chip',
  description: 'Shows the state of the environment in the toolbar of a notebook.',
  autoStart: true,
  requires: [IEnvironments, IToolbarWidgetRegistry],
  optional: [ITranslator],
  activate: (
    app: JupyterFrontEnd,
    environments: Environments,
    toolbars: IToolbarWidgetRegistry,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    toolbars.addFactory<NotebookPanel>(
      'Notebook',
      'torchEnvironment',
      panel =>
        new ChipWidget(environments.of(panel), trans, () => {
          void app.commands.execute(CommandIDs.show);
        })
    );
  }
};
