import type { ISessionContext } from '@jupyterlab/apputils';
import type { Kernel, KernelMessage, KernelSpec } from '@jupyterlab/services';
import type { Words } from '../model/words';

/** The entry point that our kernel specs name. */
const PROVISIONER = 'torch-overlay';

/** What a command in the kernel came to; `what` is the first line of the reason. */
export type Outcome = { ok: true } | { ok: false; what: string; traceback: string[] };

/** Whether a kernel spec is one that our provisioner starts. */
export function isOurs(spec: KernelSpec.ISpecModel | null | undefined): boolean {
  const stanza = spec?.metadata?.['kernel_provisioner'] as
    { provisioner_name?: unknown } | undefined;
  return stanza?.provisioner_name === PROVISIONER;
}

/** The accelerator that a kernel of ours is for, as bases name it: cu126; empty for the one that chooses. */
export function tagOf(spec: KernelSpec.ISpecModel | null | undefined): string {
  const stanza = spec?.metadata?.['kernel_provisioner'] as
    { config?: { accelerator?: unknown } } | undefined;
  const tag = stanza?.config?.accelerator;
  return typeof tag === 'string' ? tag : '';
}

/** What a kernel of ours runs on, in a sentence; empty where it is another's, or nothing is told. */
export function descriptionOf(spec: KernelSpec.ISpecModel | null | undefined): string {
  const told = spec?.metadata?.['torch_overlay'] as { description?: unknown } | undefined;
  return isOurs(spec) && typeof told?.description === 'string' ? told.description : '';
}

/** The kernel of ours that a notebook has, or will have; empty where it is another's. */
export function kernelName(context: ISessionContext): string {
  const name = context.session?.kernel?.name ?? context.kernelPreference.name ?? '';
  const specs = context.specsManager.specs?.kernelspecs;
  return isOurs(specs?.[name]) ? name : '';
}

/** Install packages into the overlay that the kernel runs in, as a cell with `%overlay add` does. */
export async function addInKernel(
  kernel: Kernel.IKernelConnection,
  requirements: readonly string[],
  trans: Words
): Promise<Outcome> {
  // A marker may be written with either quotes.
  const words = requirements.map(text => `'${text.replace(/'/g, '"')}'`).join(' ');
  return run(kernel, `%overlay add ${words}`, trans);
}

/** Uninstall a package from the overlay that the kernel runs in; what it has imported of it stays. */
export async function removeInKernel(
  kernel: Kernel.IKernelConnection,
  name: string,
  trans: Words
): Promise<Outcome> {
  const failure = `if _exit_code: raise RuntimeError("uv could not uninstall ${name}")`;
  return run(kernel, `!uv pip uninstall --quiet ${name}\n${failure}`, trans);
}

async function run(kernel: Kernel.IKernelConnection, code: string, trans: Words): Promise<Outcome> {
  const failures: KernelMessage.IErrorMsg['content'][] = [];
  let reply: KernelMessage.IExecuteReplyMsg | null = null;
  try {
    const future = kernel.requestExecute({ code, store_history: false, stop_on_error: false });
    future.onIOPub = message => {
      if (message.header.msg_type === 'error') {
        failures.push((message as KernelMessage.IErrorMsg).content);
      }
    };
    reply = await future.done;
  } catch {
    // The kernel is dead, or was restarted meanwhile: nobody answers.
  }
  const content = reply?.content;
  const told = failures[0] ?? (content?.status === 'error' ? content : undefined);
  if (told) {
    return { ok: false, what: told.evalue || told.ename, traceback: told.traceback };
  }
  if (content?.status === 'ok') {
    return { ok: true };
  }
  const what =
    kernel.status === 'dead'
      ? trans.__('The kernel is dead: restart it, then try again.')
      : trans.__('The kernel was interrupted or restarted before it was done.');
  return { ok: false, what, traceback: [] };
}
