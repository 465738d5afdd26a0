import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Environments, IEnvironments } from '../environments';
import { Api } from '../server/api';
import { Events } from '../server/events';

/** What our other plugins share: the server extension, its events, and the environments of notebooks. */
export const environments: JupyterFrontEndPlugin<Environments> = {
  id: 'kernel-provisioner:environments',
  description: 'The environments of notebooks on shared torch.',
  autoStart: true,
  provides: IEnvironments,
  optional: [ITranslator],
  activate: (app: JupyterFrontEnd, translator: ITranslator | null) => {
    const trans = (translator ?? nullTranslator).load('kernel_provisioner');
    const events = new Events(app.serviceManager.events);
    return new Environments(new Api(app.serviceManager.serverSettings, events, trans), events);
  }
};
