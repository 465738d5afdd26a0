import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker, type NotebookPanel } from '@jupyterlab/notebook';
import { IEnvironments, type Environments } from '../environments';
import { extrasOf } from '../model/requirements';
import type { Edit } from '../model/rest';
import { change, read } from '../notebook/declarations';
import type { Api } from '../server/api';

/** Milliseconds that a save may take; the server waits a little longer. */
const SAVED_WITHIN = 20_000;

/** Makes the changes that `jupyter overlay` asks for in a terminal where the notebook is open: here. */
export const edits: JupyterFrontEndPlugin<void> = {
  id: 'kernel-provisioner:edits',
  description: 'Lets jupyter overlay change a notebook that is open here.',
  autoStart: true,
  requires: [IEnvironments, INotebookTracker],
  activate: (_: JupyterFrontEnd, environments: Environments, notebooks: INotebookTracker) => {
    environments.events.emitted.connect((_, data) => {
      if (data['schema_id'] === 'urn:kernel-provisioner:edit') {
        const open = notebooks.find(panel => panel.context.localPath === data['notebook']);
        if (open) {
          void take(open, environments.api, `edits/${String(data['id'])}`).catch(() => undefined);
        }
      }
    });
  }
};

/** All who have the notebook open change what they hold; the first saves it, and says so. */
async function take(panel: NotebookPanel, api: Api, place: string): Promise<void> {
  await panel.context.ready;
  const edit = await api.post<Edit>(place, {});
  if (!panel.model) {
    return;
  }
  change(panel.model, edit);
  if (edit.first) {
    const saved = await Promise.race([
      panel.context.save().then(
        () => true,
        () => false
      ),
      new Promise<boolean>(resolve => setTimeout(() => resolve(false), SAVED_WITHIN))
    ]);
    await api.post(`${place}/done`, { extras: extrasOf(read(panel.model)), saved });
  }
}
