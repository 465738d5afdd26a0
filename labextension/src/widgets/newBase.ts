import type { TranslationBundle } from '@jupyterlab/translation';
import type { Task } from '../model/rest';
import type { NotebookEnvironment } from '../notebook/environment';
import { Toast } from '../notebook/toast';

/** Make a base for this user, telling the steps here and in a toast; rejects with an ApiError. */
export async function makeBase(
  environment: NotebookEnvironment,
  base: { tag: string; torch: string },
  trans: TranslationBundle,
  onStep: (task: Task) => void,
  stop: AbortController
): Promise<void> {
  const toast = new Toast(trans.__('Base for %1', base.tag), trans, () => stop.abort());
  const { tag, torch } = base;
  const hear = (task: Task) => {
    toast.step(task);
    onStep(task);
  };
  try {
    await environment.api.run('bases', { tag, torch }, hear, stop.signal);
    toast.end('success', trans.__('Ready'));
  } catch (error) {
    toast.end('error', stop.signal.aborted ? trans.__('Cancelled') : String(error));
    throw error;
  }
  // Its kernel is new to JupyterLab, too.
  await environment.panel.sessionContext.specsManager.refreshSpecs();
}
