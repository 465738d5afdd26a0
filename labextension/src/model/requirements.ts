/** What a notebook declares, as lists of PEP 508 requirements: the part that needs no server. */

/** The key of a notebook's metadata that holds its declarations. */
export const KEY = 'torch_env';

/** The value under `KEY`; what this extension does not know stays as it is. */
export interface TorchEnv {
  extras?: string[];
  accelerator?: string;
  torch?: string;
  lock?: unknown;
  [key: string]: unknown;
}

/** The canonical name (PEP 503) that a requirement starts with; empty where it starts with none. */
export function nameOf(requirement: string): string {
  const match = /^\s*([A-Za-z0-9][A-Za-z0-9._-]*)/.exec(requirement);
  return (match?.[1] ?? '').replace(/[-_.]+/g, '-').toLowerCase();
}

/** The declarations in a notebook's metadata; none where there are none, or nobody could read them. */
export function torchEnvOf(value: unknown): TorchEnv {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as TorchEnv)
    : {};
}

/** The extras among the declarations that are text. */
export function extrasOf(value: unknown): string[] {
  const extras = torchEnvOf(value).extras;
  return Array.isArray(extras) ? extras.filter(extra => typeof extra === 'string') : [];
}

/** `extras` with these requirements, each in place of what is declared under its name. */
export function declared(extras: readonly string[], requirements: readonly string[]): string[] {
  const result = [...extras];
  for (const requirement of requirements) {
    const at = result.findIndex(extra => nameOf(extra) === nameOf(requirement));
    if (at < 0) {
      result.push(requirement);
    } else {
      result[at] = requirement;
    }
  }
  return result;
}

/** `extras` with those of these requirements whose names are not declared yet. */
export function withNew(extras: readonly string[], requirements: readonly string[]): string[] {
  const names = new Set(extras.map(nameOf));
  return [...extras, ...requirements.filter(requirement => !names.has(nameOf(requirement)))];
}

/** `extras` without the packages of these names. */
export function undeclared(extras: readonly string[], names: readonly string[]): string[] {
  const gone = new Set(names.map(nameOf));
  return extras.filter(extra => !gone.has(nameOf(extra)));
}

/** The names of those in `before` that `after` has no more. */
export function dropped(before: readonly string[], after: readonly string[]): string[] {
  const kept = new Set(after.map(nameOf));
  return before.map(nameOf).filter(name => !kept.has(name));
}

/** `extras` without the change that made `after` of `before`; what else has changed since then stays. */
export function restored(
  extras: readonly string[],
  before: readonly string[],
  after: readonly string[]
): string[] {
  const added = after.filter(extra => !before.includes(extra)).map(nameOf);
  const gone = before.filter(extra => !after.includes(extra));
  const kept = added.filter(name => !gone.some(extra => nameOf(extra) === name));
  return declared(undeclared(extras, kept), gone);
}

/** The metadata with other extras; undefined where nothing is left to say. */
export function withExtras(value: unknown, extras: readonly string[]): TorchEnv | undefined {
  const { extras: before, ...rest } = torchEnvOf(value);
  const next: TorchEnv = extras.length > 0 || before ? { ...rest, extras: [...extras] } : rest;
  return Object.keys(next).length > 0 ? next : undefined;
}

/** A requirement taken apart; `marker` begins with its semicolon. */
export interface Parts {
  name: string;
  extras: string[];
  versions: string;
  marker: string;
}

/** The parts of a requirement; null where it names an address, or nobody could read it. */
export function partsOf(requirement: string): Parts | null {
  const match = /^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?\s*([^;@]*?)\s*(;.*)?$/.exec(
    requirement
  );
  if (!match) {
    return null;
  }
  const extras = (match[2] ?? '').split(',').map(extra => extra.trim());
  return {
    name: match[1] ?? '',
    extras: extras.filter(extra => extra !== ''),
    versions: match[3] ?? '',
    marker: match[4] ?? ''
  };
}

/** A requirement from its parts. */
export function requirementOf(parts: Parts): string {
  const extras = parts.extras.length > 0 ? `[${parts.extras.join(',')}]` : '';
  return `${parts.name}${extras}${parts.versions}${parts.marker && ` ${parts.marker}`}`;
}

/** How the versions of a requirement are chosen: by a sign and one version, or `kept` as they are declared. */
export interface Choice {
  sign: '' | '>=' | '==' | '~=' | 'kept';
  version: string;
}

/** The choice that a text of versions stands for: `>=1` is a sign and a version, `>=1,<2` is kept. */
export function choiceOf(versions: string): Choice {
  const match = /^(>=|==|~=)\s*([^,\s]+)$/.exec(versions);
  return match
    ? { sign: match[1] as Choice['sign'], version: match[2] ?? '' }
    : { sign: versions ? 'kept' : '', version: '' };
}

/** A requirement with other versions; its extras and its marker stay. */
export function withVersion(requirement: string, versions: string): string {
  const parts = partsOf(requirement);
  return parts ? requirementOf({ ...parts, versions }) : requirement;
}

/** `extras` with `meant` in place of the package `name`; its versions, extras and marker stay. */
export function renamed(extras: readonly string[], name: string, meant: string): string[] {
  const after = extras.map(extra => {
    const parts = nameOf(extra) === name ? partsOf(extra) : null;
    return parts ? requirementOf({ ...parts, name: meant }) : extra;
  });
  return declared([], after);
}

/** The metadata with requirements, without packages, and with other values under some keys. */
export function changed(
  value: unknown,
  add: readonly string[],
  remove: readonly string[],
  say: Readonly<Record<string, unknown>>
): TorchEnv | undefined {
  const extras = declared(undeclared(extrasOf(value), remove), add);
  const next = add.length + remove.length > 0 ? withExtras(value, extras) : torchEnvOf(value);
  const all: TorchEnv = { ...next, ...say };
  return Object.keys(all).length > 0 ? all : undefined;
}
