import type { INotebookModel } from '@jupyterlab/notebook';
import { KEY, changed, declared, extrasOf, withExtras, type TorchEnv } from '../model/requirements';
import type { Edit } from '../model/rest';

/*
 * Declarations are read from and written to the model that all who have the notebook open share, never
 * to the file behind it: what an editor's next save would overwrite is no declaration.
 */

/** What the notebook says under our key. */
export function read(model: INotebookModel): unknown {
  return model.getMetadata(KEY);
}

/** Let the notebook say `value` under our key; undefined: nothing. */
export function write(model: INotebookModel, value: TorchEnv | undefined): void {
  if (value === undefined) {
    model.deleteMetadata(KEY);
  } else {
    model.setMetadata(KEY, value);
  }
}

/** Declare packages in the notebook. */
export function declare(model: INotebookModel, requirements: readonly string[]): void {
  const value = read(model);
  write(model, withExtras(value, declared(extrasOf(value), requirements)));
}

/** Change what the notebook says, and the kernel that it names. */
export function change(model: INotebookModel, edit: Edit): void {
  write(model, changed(read(model), edit.add ?? [], edit.remove ?? [], edit.say ?? {}));
  if (edit.kernelspec) {
    model.setMetadata('kernelspec', edit.kernelspec);
  }
}
