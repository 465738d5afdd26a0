import type { Kernel } from '@jupyterlab/services';
import { describe, expect, it } from 'vitest';
import { addInKernel } from '../src/notebook/kernel';
import { trans } from './trans';

/** A kernel that answers each request as `done` says; `asked` is the code of them. */
function kernel(done: () => Promise<unknown>, status = 'idle') {
  const asked: string[] = [];
  const requestExecute = ({ code }: { code: string }) => {
    asked.push(code);
    return { done: done() };
  };
  const made = { status, requestExecute } as unknown as Kernel.IKernelConnection;
  return { asked, kernel: made };
}

const WELL = () => Promise.resolve({ content: { status: 'ok' } });

describe('adding in a kernel', () => {
  it('keeps the marker of a requirement', async () => {
    const well = kernel(WELL);
    const marked = 'einops ; python_version > \'3.9\' and os_name == "posix"';
    expect(await addInKernel(well.kernel, [marked, 'seaborn'], trans)).toEqual({ ok: true });
    expect(well.asked).toEqual([
      `%overlay add 'einops ; python_version > "3.9" and os_name == "posix"' 'seaborn'`
    ]);
  });

  it('ends where the kernel is restarted meanwhile', async () => {
    const restarted = kernel(() => Promise.reject(new Error('Canceled future')));
    expect(await addInKernel(restarted.kernel, ['einops'], trans)).toEqual({
      ok: false,
      what: 'The kernel was interrupted or restarted before it was done.',
      traceback: []
    });
  });

  it('ends where the kernel is dead', async () => {
    const dead = kernel(() => {
      throw new Error('Kernel is dead');
    }, 'dead');
    expect(await addInKernel(dead.kernel, ['einops'], trans)).toMatchObject({
      ok: false,
      what: 'The kernel is dead: restart it, then try again.'
    });
  });
});
