/** A notebook's lock, and the same as PEP 751 has it in a file. */
import type { Words } from './words';

export interface LockFile {
  name: string;
  hashes: { sha256: string };
}

export interface Lock {
  'lock-version': string;
  'created-by': string;
  'requires-python': string;
  packages: { name: string; version: string; sdist?: LockFile; wheels?: LockFile[] }[];
}

/** `1 package`, `3 packages`. */
export function plural(count: number, trans: Words): string {
  return trans._n('%1 package', '%1 packages', count, count);
}

/** The text of pylock.toml. JSON's strings are TOML's basic strings: both escape in the same way. */
export function pylock(lock: Lock): string {
  const text = (value: string) => JSON.stringify(value);
  const file = (one: LockFile) =>
    `{ name = ${text(one.name)}, hashes = { sha256 = ${text(one.hashes.sha256)} } }`;
  const lines = [
    `lock-version = ${text(lock['lock-version'])}`,
    `created-by = ${text(lock['created-by'])}`,
    `requires-python = ${text(lock['requires-python'])}`
  ];
  for (const one of lock.packages) {
    lines.push('', '[[packages]]', `name = ${text(one.name)}`, `version = ${text(one.version)}`);
    if (one.sdist) {
      lines.push(`sdist = ${file(one.sdist)}`);
    }
    if (one.wheels) {
      lines.push('wheels = [', ...one.wheels.map(wheel => `  ${file(wheel)},`), ']');
    }
  }
  return `${lines.join('\n')}\n`;
}
