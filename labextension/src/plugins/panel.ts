import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILayoutRestorer } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { CommandIDs } from '../commands';
import { IEnvironments, type Environments } from '../environments';
import { environmentIcon } from '../icons';
import { saveAndRestart } from '../notebook/actions';
import { EnvironmentPanel } from '../widgets/panel';

/** The panel "Environment" on the right side, and the commands that lead to it. */
export const panel: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:panel',
  description: 'Shows and changes what the current notebook runs on.',
  autoStart: true,
  requires: [IEnvironments, INotebookTracker],
  optional: [ICommandPalette, ILayoutRestorer, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    environments: Environments,
    notebooks: INotebookTracker,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    const widget = new EnvironmentPanel(notebooks, environments, trans);
    app.shell.add(widget, 'right', { rank: 600, type: 'Environment' });
    restorer?.add(widget, widget.id);

    const ours = () => {
      const current = notebooks.currentWidget;
      return current !== null && environments.of(current).kernel !== '';
    };
    /** Show the panel, and lead the keyboard to a part of it. */
    const show = (selector: string) => {
      app.shell.activateById(widget.id);
      requestAnimationFrame(() => widget.focusOn(selector));
    };
    app.commands.addCommand(CommandIDs.show, {
      label: trans.__('Torch: Show Environment'),
      caption: trans.__('Packages, torch, accelerator and disk of this notebook'),
      icon: environmentIcon,
      execute: () => show('summary')
    });
    app.commands.addCommand(CommandIDs.add, {
      label: trans.__('Torch: Add Package to This Notebook…'),
      caption: trans.__('Declare a package, and install it into this notebook’s environment'),
      isEnabled: ours,
      execute: () => show('input')
    });
    app.commands.addCommand(CommandIDs.accelerator, {
      label: trans.__('Torch: Choose Accelerator or Base…'),
      caption: trans.__('CPU, CUDA, ROCm or XPU for this notebook'),
      isEnabled: ours,
      execute: () => show('select, .jp-TorchOverlay-base button:enabled')
    });
    app.commands.addCommand(CommandIDs.restart, {
      label: trans.__('Torch: Save and Restart Kernel to Apply Environment'),
      isEnabled: ours,
      execute: async () => {
        if (notebooks.currentWidget) {
          await saveAndRestart(notebooks.currentWidget);
        }
      }
    });
    notebooks.currentChanged.connect(() => app.commands.notifyCommandChanged());
    for (const command of Object.values(CommandIDs)) {
      palette?.addItem({ command, category: trans.__('Torch Environment') });
    }
  }
};
