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
import { read, write } from './declarations';
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
 * notebook declare again what it declared before, of the packages that this changed.
 */
export type Applied =
  | { ok: true; now: boolean; undo: () => Promise<void> }
  | { ok: false; outcome: Outcome & { ok: false } };

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
  const { api, panel, state } = environment;
  const kernel = panel.sessionContext.session?.kernel;
  if (!kernel || state?.running?.entered !== true || state.running.state !== 'ready') {
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

/** Save the notebook, which a launch reads, and restart its kernel. */
export async function saveAndRestart(panel: NotebookPanel): Promise<void> {
  await panel.context.save();
  const kernel = panel.sessionContext.session?.kernel;
  if (kernel) {
    await panel.sessionContext.restartKernel();
  } else {
    await panel.sessionContext.startKernel();
  }
}

/** Let the notebook run on a base from its next start on; with another kernel, that start is now. */
export async function choose(panel: NotebookPanel, wanted: Choose): Promise<void> {
  if (!panel.model) {
    return;
  }
  const next: TorchEnv = { ...torchEnvOf(said(panel)), ...wanted.torch_env };
  write(panel.model, Object.keys(next).length > 0 ? next : undefined);
  if (wanted.kernel && wanted.kernel !== panel.sessionContext.session?.kernel?.name) {
    await panel.context.save();
    await panel.sessionContext.changeKernel({ name: wanted.kernel });
  }
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
