import { PathExt } from '@jupyterlab/coreutils';
import type { INotebookModel, NotebookPanel } from '@jupyterlab/notebook';
import { KEY, changed, extrasOf, withExtras, withNew, type TorchEnv } from '../model/requirements';
import type { Edit } from '../model/rest';
import { homeOf, scriptNames, type Home } from '../model/text';

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

/** Declare those packages in the notebook that it does not declare yet. */
export function declare(model: INotebookModel, requirements: readonly string[]): void {
  const value = read(model);
  const extras = extrasOf(value);
  const after = withNew(extras, requirements);
  if (after.length > extras.length) {
    write(model, withExtras(value, after));
  }
}

/** The name of a notebook's file, as it is typed in a terminal in its folder. */
export function fileName(panel: NotebookPanel): string {
  return PathExt.basename(panel.context.localPath);
}

/** Where a notebook keeps what it declares: `write` and `declare` are for those that keep it in metadata. */
export function home(panel: NotebookPanel): Home {
  return homeOf(panel.context.localPath, panel.model?.getMetadata('jupytext'));
}

/** The index of the cell whose `# /// script` block declares a package; -1 where none does. */
export function scriptCell(panel: NotebookPanel, name: string): number {
  return panel.content.widgets.findIndex(
    ({ model }) =>
      model.type === 'code' && scriptNames(model.sharedModel.getSource()).includes(name)
  );
}

/** Go to a cell: make it the active one, and scroll to it. */
export async function goToCell(panel: NotebookPanel, index: number): Promise<void> {
  const notebook = panel.content;
  notebook.activeCellIndex = index;
  if (notebook.activeCell) {
    await notebook.scrollToCell(notebook.activeCell, 'center');
  }
  panel.activate();
}

/** Change what the notebook says, and the kernel that it names. */
export function change(model: INotebookModel, edit: Edit): void {
  write(model, changed(read(model), edit.add ?? [], edit.remove ?? [], edit.say ?? {}));
  if (edit.kernelspec) {
    model.setMetadata('kernelspec', edit.kernelspec);
  }
}
