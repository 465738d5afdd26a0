/** What the server extension tells, as kernel_provisioner/server/openapi.json has it. */

export interface Failure {
  error: string;
  what: string;
  why: string;
  fix: string;
  /** A package that no index has, and the one that was probably meant. */
  field?: string;
  meant?: string;
}

/** What has to change so that a notebook runs on a base: its kernel, and keys of torch_env. */
export interface Choose {
  kernel: string;
  torch_env: Record<string, string>;
}

export type Fix =
  | { do: 'remove'; name: string; requirement: string }
  | { do: 'replace'; name: string; requirement: string }
  | { do: 'reset'; key: string; index?: number }
  | { do: 'use-base'; base: string; tag: string; choose: Choose }
  | { do: 'create-base'; tag: string; torch: string }
  | { do: 'ask'; tag: string; contact: string }
  | { do: 'lock' }
  | { do: 'retry' };

/** A registered base; `default` is the one that its tag means. */
export interface ListedBase {
  id: string;
  tag: string;
  torch: string;
  python: string;
  adopted: boolean;
  default: boolean;
}

export interface Base extends ListedBase {
  bytes: number;
  why_not: string[];
  choose: Choose | null;
}

export interface Step {
  phase?: string;
  message: string;
  done?: number;
  total?: number;
  /** What has come of the larger files, and how much they are, as far as is known. */
  bytes?: number;
  total_bytes?: number;
}

export interface Pending {
  what: 'base' | 'add' | 'remove' | 'lock';
  name: string;
}

export interface Running {
  state: string;
  base: string | null;
  entered: boolean;
  pending: Pending[];
  failure: Failure | null;
}

export interface Declared {
  name: string;
  requirement: string;
  installed: string | null;
  in_base: boolean;
  bytes: number;
  /** The extras that the installed version has. */
  extras: string[];
}

export interface Package {
  name: string;
  version: string;
  bytes: number;
  needed_by: string[];
}

export interface Packages {
  declared: Declared[];
  by_hand: Package[];
  others: Package[];
  replaced: Record<string, [string, string]>;
}

export interface Environment {
  notebook: string;
  kernel: string;
  base: { id: string; tag: string; torch: string; python: string; bytes: number } | null;
  device: string;
  reason: string;
  notices: string[];
  request: { accelerator: string; torch: string; requires_python: string; exclude_newer: string };
  extras: string[];
  /** Declared names that are new to this machine, and the well-known ones that they are a slip from. */
  unfamiliar: { name: string; like: string }[];
  lock: { state: 'none' | 'current' | 'stale'; torch?: string; packages?: number };
  overlay: { path: string | null; state: string };
  progress: Step | null;
  running: Running | null;
  failure: Failure | null;
  fixes: Fix[];
  packages?: Packages;
  bases?: Base[];
  damaged_bases?: Failure[];
}

export interface Change {
  what: 'add' | 'upgrade' | 'downgrade' | 'remove' | 'replace';
  name: string;
  from: string;
  to: string;
}

export interface Changes {
  base: string;
  reason: string;
  notices: string[];
  packages: Change[];
  bytes: number;
  waits: string;
}

export interface Task<T = unknown> extends Step {
  id: string;
  kind: string;
  state: 'running' | 'done' | 'failed' | 'cancelled';
  result: T | null;
  error: Failure | null;
}

export interface Gpu {
  name: string;
  memory: number;
  memory_free: number;
}

export interface Hardware {
  driver: string;
  gpus: Gpu[];
  amd: string[];
  xpu: boolean;
  mps: boolean;
  notes: string[];
}

export interface DiskUse {
  bases: { id: string; own_bytes: number; linked_bytes: number; environments: number }[];
  environments: {
    name: string | null;
    path: string;
    base: string | null;
    own_bytes: number;
    linked_bytes: number;
    /** Of the packages in the wheel store that it is linked to. */
    store_bytes: number;
    counts: boolean;
  }[];
  shared_bytes: number;
  private_bytes: number;
}

export interface Pruned {
  dry_run: boolean;
  removed: { path: string; notebook: string | null; reason: string; own_bytes: number }[];
  kept: { path: string; notebook: string | null; by_hand: string[] }[];
}

export interface Log {
  overlay: string | null;
  steps: Step[];
  output: string;
}

/** A notebook as the server needs to see it, saved or not. */
export interface Content {
  metadata: Record<string, unknown>;
  cells: { cell_type: 'code'; source: string }[];
}

/** A change of the notebook, as the server hands it on. The `first` to take it saves the notebook. */
export interface Edit {
  first: boolean;
  add?: string[];
  remove?: string[];
  say?: Record<string, unknown>;
  kernelspec?: Record<string, unknown>;
}
