import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { IEnvironments, type Environments } from '../environments';
import type { NotebookEnvironment } from '../notebook/environment';
import { Toast } from '../notebook/toast';

/** Tells of a build that takes a while, in a corner, with a way to cancel it. */
export const progress: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:progress',
  description: 'Shows how far the installation of a notebook’s packages is.',
  autoStart: true,
  requires: [IEnvironments],
  optional: [ITranslator],
  activate: (_: JupyterFrontEnd, environments: Environments, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    const toasts = new Map<NotebookEnvironment, Toast>();
    environments.changed.connect((_, environment) => {
      const { state, isDisposed } = environment;
      const step = isDisposed ? null : state?.progress;
      let toast = toasts.get(environment);
      if (step) {
        if (!toast) {
          toast = new Toast(environment.panel.title.label, trans, () => {
            void environment.cancel().catch(() => environment.refresh());
          });
          toasts.set(environment, toast);
        }
        toast.step(step);
      } else if (toast) {
        const failure = state?.failure ?? state?.running?.failure;
        if (failure) {
          toast.end('error', failure.what);
        } else {
          toast.end(state ? 'success' : 'info', state ? trans.__('Ready') : trans.__('Closed'));
        }
        toasts.delete(environment);
      }
    });
  }
};
