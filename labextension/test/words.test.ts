import { describe, expect, it } from 'vitest';
import type { Environment } from '../src/model/rest';
import {
  baseName,
  bytes,
  chipOf,
  pendingText,
  shortModel,
  shortVersion,
  stepText,
  spokenTag,
  summary,
  tileText
} from '../src/model/words';
import { trans } from './trans';

const RUNNING = { state: 'ready', base: 'b', entered: true, pending: [], failure: null };

function environment(more: Partial<Environment> = {}): Environment {
  return {
    notebook: 'a.ipynb',
    kernel: 'torch',
    base: { id: 'b', tag: 'cpu', torch: '2.13.0+cpu', python: '3.11.7', bytes: 1 },
    device: '',
    reason: 'because',
    notices: [],
    request: { accelerator: 'auto', torch: '', requires_python: '', exclude_newer: '' },
    extras: [],
    unfamiliar: [],
    lock: { state: 'none' },
    overlay: { path: null, state: 'ready' },
    progress: null,
    running: RUNNING,
    failure: null,
    fixes: [],
    ...more
  };
}

const FAILURE = { error: 'ResolutionFailed', what: 'they do not fit', why: '', fix: '' };

describe('words', () => {
  it('say sizes in powers of ten', () => {
    expect([0, 999, 1500, 1_102_245_888, 5e9].map(bytes)).toEqual([
      '0 B',
      '999 B',
      '1.5 kB',
      '1.1 GB',
      '5.0 GB'
    ]);
  });

  it('say accelerators as people do', () => {
    expect(['cpu', 'cu126', 'cu92', 'rocm6.2', 'xpu', 'new1'].map(spokenTag)).toEqual([
      'CPU',
      'CUDA 12.6',
      'CUDA 9.2',
      'ROCm 6.2',
      'XPU',
      'new1'
    ]);
  });

  it('tell on a tile what a kernel runs on: the base that its tag means', () => {
    const bases = [
      { tag: 'cu126', torch: '2.12.0+cu126', default: false },
      { tag: 'cu126', torch: '2.14.0+cu126', default: true }
    ];
    expect(tileText('cu126', bases, trans)).toBe('torch 2.14 · CUDA 12.6');
    expect(tileText('cpu', bases, trans)).toBe('torch · CPU');
    expect(tileText('', bases, trans)).toBe('torch · auto');
  });

  it('say versions as people do', () => {
    expect(['2.13.0+cpu', '2.6.1', '2.14.0', '2.15.0.dev1+cu130'].map(shortVersion)).toEqual([
      '2.13',
      '2.6.1',
      '2.14',
      '2.15.0.dev1'
    ]);
    expect(baseName({ torch: '2.14.0+cu126', tag: 'cu126' }, 'NVIDIA H100 80GB HBM3')).toBe(
      'torch 2.14 · cu126 · H100'
    );
  });

  it.each([
    ['NVIDIA H100 80GB HBM3', 'H100'],
    ['NVIDIA H100 NVL', 'H100'],
    ['Tesla V100-SXM2-16GB', 'V100'],
    ['NVIDIA A100-PCIE-40GB', 'A100'],
    ['NVIDIA GeForce RTX 4090', 'RTX 4090'],
    ['NVIDIA GeForce RTX 3060 Laptop GPU', 'RTX 3060 Laptop'],
    ['NVIDIA RTX 6000 Ada Generation', 'RTX 6000 Ada'],
    ['NVIDIA GH200 480GB', 'GH200'],
    ['Quadro RTX 8000', 'RTX 8000'],
    ['NVIDIA B200', 'B200'],
    ['gfx942', 'gfx942'],
    ['', '']
  ])('call %s %s', (device, model) => {
    expect(shortModel(device)).toBe(model);
  });
});

describe('the chip', () => {
  it('names torch and the accelerator', () => {
    expect(chipOf(environment(), trans)).toMatchObject({ kind: 'ready', text: 'torch 2.13 · cpu' });
    expect(chipOf(environment({ running: null }), trans).kind).toBe('waiting');
  });

  it('shows how far an installation is', () => {
    const progress = { message: 'Downloading x', done: 1, total: 4 };
    expect(chipOf(environment({ progress }), trans)).toEqual({
      kind: 'busy',
      text: 'Installing 1/4',
      title: 'Downloading x',
      fraction: 0.25
    });
    expect(chipOf(environment({ progress: { message: 'Resolving' } }), trans).fraction).toBeNull();
  });

  it('asks for a restart, and says what for', () => {
    const pending = [
      { what: 'add', name: 'seaborn>=0.13' },
      { what: 'remove', name: 'einops' }
    ] as const;
    const state = environment({ running: { ...RUNNING, pending: [...pending] } });
    expect(chipOf(state, trans)).toMatchObject({
      kind: 'pending',
      text: 'Restart to apply',
      title: 'torch 2.13 · cpu\nA restart adds seaborn>=0.13, removes einops.'
    });
    expect(pendingText(environment(), trans)).toBe('A restart tries again.');
  });

  it('tells a failure, until what is asked for has changed', () => {
    const failed = { ...RUNNING, state: 'failed', failure: FAILURE };
    const state = environment({
      running: failed,
      failure: FAILURE,
      overlay: { path: 'x', state: 'failed' }
    });
    expect(chipOf(state, trans)).toMatchObject({ kind: 'failed', title: 'they do not fit' });
    const changed = environment({
      running: { ...failed, pending: [{ what: 'remove', name: 'x' }] },
      overlay: { path: null, state: 'outdated' }
    });
    expect(chipOf(changed, trans).kind).toBe('pending');
  });

  it('tells where no base fits', () => {
    const failure = { ...FAILURE, error: 'NoBaseFits' };
    const state = environment({ base: null, failure, overlay: { path: null, state: 'refused' } });
    expect(chipOf(state, trans)).toMatchObject({ kind: 'failed', text: 'No torch fits' });
  });
});

describe('a summary of changes', () => {
  it('counts each kind', () => {
    const change = (what: 'add' | 'replace', name: string) => ({ what, name, from: '', to: '1' });
    expect(summary([change('add', 'a'), change('add', 'b'), change('replace', 'c')], trans)).toBe(
      '2 added, 1 of the base replaced'
    );
    expect(summary([], trans)).toBe('Nothing changes');
  });

  it('say how far a build is, as far as is known', () => {
    expect(stepText({ message: 'Resolving einops' }, 0, trans)).toBe('Resolving einops');
    const step = {
      message: 'Downloading numpy (16.6MiB)',
      done: 1,
      total: 3,
      bytes: 2_000_000,
      total_bytes: 18_000_000
    };
    expect(stepText(step, 1_500_000, trans)).toBe(
      'Downloading numpy (16.6MiB) · 1 of 3 · 2.0 MB of 18.0 MB · 1.5 MB/s'
    );
  });
});
