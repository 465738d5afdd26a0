import { Dialog, showDialog } from '@jupyterlab/apputils';
import type { NotebookPanel } from '@jupyterlab/notebook';
import {
  dropped,
  extrasOf,
  restored,
  torchEnvOf,
  withExtras,
  type TorchEnv
} from '../model/requirements';
import type { Changes, Choose, Package, Task } from '../model/rest';
import { commandsOf } from '../model/text';
import type { Words } from '../model/words';
import { fileName, home, read, write } from './declarations';
import type { NotebookEnvironment } from './environment';
import { addInKernel, removeInKernel, type Outcome } from './kernel';

/**
 * A change of what the notebook declares. `change` makes it of the extras as they are then: others may change
 * them, too, while this one is looked at. `install` are requirements that the kernel can be given at once,
 * `uninstall` is a package that was added by hand and that the kernel shall have no more.
 */
export interface Proposal {
  title: string;
  change: (extras: readonly string[]) => string[];
  install: string[];
  uninstall?: Package;
}

/**
 * How an applied change went: `now` where the kernel has it, else a restart applies it. `undo` lets the
 * notebook declare again what it declared before, of the packages that this changed; null: it declares them yet.
 */
export type Applied =
  | { ok: true; now: boolean; undo: (() => Promise<void>) | null }
  | { ok: false; outcome: Outcome & { ok: false } };

/**
 * What to run in a terminal for a change of what a text notebook declares: what is written into its metadata,
 * jupytext drops. Null where the panel can write it, or has nothing to write.
 */
export function byHand(panel: NotebookPanel, change: Proposal['change']): string[] | null {
  const before = extrasOf(said(panel));
  const commands = commandsOf(fileName(panel), before, change(before));
  return home(panel) === 'metadata' || commands.length === 0 ? null : commands;
}

/** Whether the running kernel can be given packages at once. */
export function takesPackages({ panel, state }: NotebookEnvironment): boolean {
  const kernel = panel.sessionContext.session?.kernel;
  return Boolean(kernel) && state?.running?.entered === true && state.running.state === 'ready';
}

/** What would be installed and removed if the notebook said so; rejects with an ApiError. */
export async function preview(
  environment: NotebookEnvironment,
  proposal: Proposal,
  onStep: (task: Task<Changes>) => void,
  signal: AbortSignal
): Promise<Changes> {
  const value = said(environment.panel);
  const before = extrasOf(value);
  const after = proposal.change(before);
  const body = {
    ...environment.subject(withExtras(value, after) ?? null),
    forget: [...dropped(before, after), ...namesOf(proposal.uninstall)]
  };
  const found = await environment.api.run<Changes>('changes', body, onStep, signal);
  // What else is there by hand stays for now: a restart with the same declarations takes this environment.
  const gone = proposal.uninstall?.name;
  return gone
    ? { ...found, packages: found.packages.filter(({ name }) => name === gone), bytes: 0 }
    : found;
}

/**
 * Install first, then declare: whatever comes in between, a notebook never declares what could not be had,
 * and what was installed without being declared is told as added by hand. Rejects with an ApiError where
 * what is no longer declared could not be forgotten; it is still declared then.
 */
export async function apply(
  environment: NotebookEnvironment,
  proposal: Proposal
): Promise<Applied> {
  const { install, uninstall } = proposal;
  const outcome = await changeKernel(environment, install, uninstall?.name);
  if (outcome?.ok === false) {
    return { ok: false, outcome };
  }
  if (byHand(environment.panel, proposal.change)) {
    environment.refresh();
    return { ok: true, now: outcome !== null, undo: null };
  }
  const before = extrasOf(said(environment.panel));
  const after = await redeclare(environment, proposal.change, namesOf(uninstall));
  const undo = async () => {
    await redeclare(environment, extras => restored(extras, before, after));
    if (uninstall) {
      await changeKernel(environment, [`${uninstall.name}==${uninstall.version}`]);
      environment.refresh();
    }
  };
  return { ok: true, now: outcome !== null, undo };
}

/** Install and uninstall in the running kernel; null where there is nothing to do, or no kernel that could. */
async function changeKernel(
  environment: NotebookEnvironment,
  install: readonly string[],
  uninstall?: string
): Promise<Outcome | null> {
  const { api, panel } = environment;
  const kernel = panel.sessionContext.session?.kernel;
  if (!kernel || !takesPackages(environment)) {
    return null;
  }
  if (uninstall) {
    return removeInKernel(kernel, uninstall, api.trans);
  }
  return install.length > 0 ? addInKernel(kernel, install, api.trans) : null;
}

function namesOf(one: Package | undefined): string[] {
  return one ? [one.name] : [];
}

/**
 * Let the notebook declare other packages; resolves to those. What it drops, and the names in `forget`, is
 * not kept from `%overlay add` either, or the next restart would bring it back. Rejects with an ApiError;
 * then nothing has changed.
 */
export async function redeclare(
  environment: NotebookEnvironment,
  change: Proposal['change'],
  forget: readonly string[] = []
): Promise<string[]> {
  const { api, panel } = environment;
  const before = extrasOf(said(panel));
  const names = [...forget, ...dropped(before, change(before))];
  if (names.length > 0) {
    await api.post('forget', { ...environment.subject(), names });
  }
  const after = change(extrasOf(said(panel)));
  if (panel.model) {
    write(panel.model, withExtras(read(panel.model), after));
  }
  environment.refresh();
  return after;
}

function said(panel: NotebookPanel): unknown {
  return panel.model ? read(panel.model) : undefined;
}

/** Save the notebook, which a launch reads, and restart its kernel; neither where the user calls the save off. */
export async function saveAndRestart(panel: NotebookPanel): Promise<void> {
  if (!(await saved(panel))) {
    return;
  }
  const context = panel.sessionContext;
  if (context.session?.kernel) {
    await context.restartKernel();
  } else {
    // Opened without a kernel, it was told to start none.
    context.kernelPreference = { ...context.kernelPreference, shouldStart: true };
    await context.startKernel();
  }
}

/** Save the notebook; false where the user calls that off in a dialog of JupyterLab's. */
async function saved(panel: NotebookPanel): Promise<boolean> {
  try {
    await panel.context.save();
    return true;
  } catch (error) {
    if (error instanceof Error && error.name === 'ModalCancelError') {
      return false;
    }
    throw error;
  }
}

/**
 * Let the notebook run on a base from its next start on; with another kernel, that start is now: where one
 * runs, the user is asked first.
 */
export async function choose(panel: NotebookPanel, wanted: Choose, trans: Words): Promise<void> {
  const context = panel.sessionContext;
  const kernel = context.session?.kernel;
  const changes = wanted.kernel !== '' && wanted.kernel !== kernel?.name;
  if (!panel.model || (changes && kernel && !(await agreed(panel, wanted.kernel, trans)))) {
    return;
  }
  if (Object.keys(wanted.torch_env).length > 0) {
    write(panel.model, { ...torchEnvOf(said(panel)), ...wanted.torch_env });
  }
  if (changes && (await saved(panel))) {
    await context.changeKernel({ name: wanted.kernel });
  }
}

async function agreed(panel: NotebookPanel, kernel: string, trans: Words): Promise<boolean> {
  const answer = await showDialog({
    title: trans.__('Change the kernel?'),
    body: trans.__(
      'This ends the running kernel of %1 and starts %2. All variables are lost.',
      panel.title.label,
      kernel
    ),
    buttons: [
      Dialog.cancelButton({ label: trans.__('Cancel') }),
      Dialog.warnButton({ label: trans.__('Change Kernel') })
    ]
  });
  return answer.button.accept;
}

/** Let the notebook say something else under one key; undefined: nothing. */
export function say(panel: NotebookPanel, key: string, value: unknown): void {
  if (!panel.model) {
    return;
  }
  const { [key]: _, ...rest } = torchEnvOf(read(panel.model));
  const next: TorchEnv = value === undefined ? rest : { ...rest, [key]: value };
  write(panel.model, Object.keys(next).length > 0 ? next : undefined);
}
