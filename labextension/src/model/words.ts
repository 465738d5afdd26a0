/** What is said of an environment. Pure: `trans` is JupyterLab's, or any that fills in `%1`. */
import type { Change, Environment, Step } from './rest';
import type { Home } from './text';

/** As much of a TranslationBundle as is needed here. */
export interface Words {
  __(text: string, ...args: (string | number)[]): string;
  _n(one: string, many: string, count: number, ...args: (string | number)[]): string;
}

/** How the chip looks: `kind` decides on colour and icon, `fraction` on how far the ring is. */
export interface Chip {
  kind: 'ready' | 'waiting' | 'busy' | 'pending' | 'failed';
  text: string;
  title: string;
  fraction: number | null;
}

/** A size as people read it, powers of ten: `1.5 MB`. */
export function bytes(size: number): string {
  let value = size;
  for (const unit of ['B', 'kB', 'MB']) {
    if (value < 999.5) {
      return unit === 'B' ? `${Math.round(value)} B` : `${value.toFixed(1)} ${unit}`;
    }
    value /= 1000;
  }
  return `${value.toFixed(1)} GB`;
}

/** torch's version as people speak of it: 2.13.0+cpu is 2.13. */
export function shortVersion(torch: string): string {
  const match = /^(\d+\.\d+)(?:\.0)?(?:\+|$)/.exec(torch);
  return match?.[1] ?? torch.replace(/\+.*$/, '');
}

/** `torch 2.13 · cpu`, and the device where there is one. */
export function baseName(base: { torch: string; tag: string }, device = ''): string {
  const model = shortModel(device);
  return [`torch ${shortVersion(base.torch)}`, base.tag, ...(model ? [model] : [])].join(' · ');
}

/** A GPU as people call it: NVIDIA's driver says `NVIDIA H100 80GB HBM3` and `Tesla V100-SXM2-16GB`. */
export function shortModel(device: string): string {
  const model = device.replace(/^((NVIDIA|Tesla|GeForce|Quadro) )*/, '');
  return model.replace(/(-| )(SXM|PCI|NVL|HBM|\d+ ?GB|GPU|Generation).*$/i, '');
}

/** A tag as people say it: cu126 is CUDA 12.6. */
export function spokenTag(tag: string): string {
  const [, family, numbers = ''] = /^(cpu|cu|rocm|xpu)([0-9.]*)$/.exec(tag) ?? [];
  switch (family) {
    case 'cu':
      return `CUDA ${numbers.replace(/(\d)$/, '.$1')}`;
    case 'rocm':
      return `ROCm ${numbers}`;
    case undefined:
      return tag;
    default:
      return family.toUpperCase();
  }
}

/** What a kernel runs on, in a line: `torch 2.13 · CUDA 12.6`. Without a tag it chooses for itself. */
export function tileText(
  tag: string,
  bases: readonly { tag: string; torch: string; default: boolean }[],
  trans: Words
): string {
  if (!tag) {
    return trans.__('torch · auto');
  }
  const base = bases.find(one => one.tag === tag && one.default);
  return [base ? `torch ${shortVersion(base.torch)}` : 'torch', spokenTag(tag)].join(' · ');
}

/** What the chip says. */
export function chipOf(state: Environment, trans: Words): Chip {
  const name = state.base ? baseName(state.base, state.device) : 'torch';
  const failure = state.running?.failure ?? null;
  const waits = state.running !== null && state.running.pending.length > 0;
  if (state.progress) {
    const { message, done = 0, total = 0 } = state.progress;
    return {
      kind: 'busy',
      text: total > 0 ? trans.__('Installing %1/%2', done, total) : trans.__('Installing …'),
      title: message,
      fraction: total > 0 ? Math.min(done / total, 1) : null
    };
  }
  if (state.overlay.state === 'refused') {
    return {
      kind: 'failed',
      text:
        state.failure?.error === 'NoBaseFits'
          ? trans.__('No torch fits')
          : trans.__('Not understood'),
      title: state.failure?.what ?? '',
      fraction: null
    };
  }
  if (failure && !waits) {
    return {
      kind: 'failed',
      text: trans.__('Build failed'),
      title: failure.what,
      fraction: null
    };
  }
  if (state.overlay.state === 'failed') {
    return {
      kind: 'failed',
      text: trans.__('Build failed'),
      title: state.failure?.what ?? '',
      fraction: null
    };
  }
  if (state.running && (waits || state.running.state === 'refused')) {
    return {
      kind: 'pending',
      text: trans.__('Restart to apply'),
      title: `${name}\n${pendingText(state, trans)}`,
      fraction: null
    };
  }
  return {
    kind: state.running ? 'ready' : 'waiting',
    text: name,
    title: state.reason,
    fraction: null
  };
}

/** What a restart would change, as a sentence. */
export function pendingText(state: Environment, trans: Words): string {
  const pending = state.running?.pending ?? [];
  const names = (what: string) => pending.filter(one => one.what === what).map(one => one.name);
  const parts = [];
  const [added, removed, base] = [names('add'), names('remove'), names('base')];
  if (base.length > 0) {
    parts.push(
      trans.__('runs on %1', state.base ? baseName(state.base, state.device) : base.join())
    );
  }
  if (added.length > 0) {
    parts.push(trans.__('adds %1', added.join(', ')));
  }
  if (removed.length > 0) {
    parts.push(trans.__('removes %1', removed.join(', ')));
  }
  if (names('lock').length > 0) {
    parts.push(trans.__('installs the locked versions'));
  }
  return parts.length > 0
    ? trans.__('A restart %1.', parts.join(', '))
    : trans.__('A restart tries again.');
}

/** What a build does now, how far it is, and at which speed (bytes per second): `Fetching … · 2 of 5`. */
export function stepText(step: Step, speed: number, trans: Words): string {
  const { message, done = 0, total = 0, bytes: come = 0, total_bytes: all = 0 } = step;
  const parts = [message];
  if (total > 0) {
    parts.push(trans.__('%1 of %2', Math.floor(done), total));
  }
  if (all > 0) {
    parts.push(trans.__('%1 of %2', bytes(come), bytes(all)));
  }
  if (speed > 0) {
    parts.push(trans.__('%1/s', bytes(speed)));
  }
  return parts.join(' · ');
}

/** One line on all that would change: `3 added, 1 upgraded`. */
export function summary(changes: readonly Change[], trans: Words): string {
  const count = (what: Change['what']) => changes.filter(change => change.what === what).length;
  const parts = [
    [count('add'), trans.__('%1 added', count('add'))],
    [count('upgrade'), trans.__('%1 upgraded', count('upgrade'))],
    [count('downgrade'), trans.__('%1 downgraded', count('downgrade'))],
    [count('replace'), trans.__('%1 of the base replaced', count('replace'))],
    [count('remove'), trans.__('%1 removed', count('remove'))]
  ] as const;
  const told = parts.filter(([number]) => number > 0).map(([, text]) => text);
  return told.length > 0 ? told.join(', ') : trans.__('Nothing changes');
}

/** That jupytext drops what would be written into a text notebook, and what to do instead. */
export function unkeptText(name: string, home: Home, trans: Words): string {
  return home === 'nowhere'
    ? trans.__(
        'jupytext drops what would be written into the metadata of %1, and this format cannot declare packages. Save the notebook as .ipynb, .py, .md or .qmd.',
        name
      )
    : trans.__(
        'jupytext drops what would be written into the metadata of %1. Save the notebook, run this in a terminal in its folder, then reload the notebook from disk:',
        name
      );
}
