/** Text notebooks: jupytext writes them, and drops the metadata that it does not know. */
import { dropped, KEY, nameOf } from './requirements';

/**
 * Where what a notebook declares is kept: in its metadata, in a `# /// script` cell that `jupyter overlay`
 * writes, or nowhere, where not even that reads the format.
 */
export type Home = 'metadata' | 'script' | 'nowhere';

/** Where a notebook keeps what it declares, by its path and by its metadata under `jupytext`. */
export function homeOf(path: string, jupytext: unknown): Home {
  if (/\.ipynb$/i.test(path)) {
    return 'metadata';
  }
  const filter = (jupytext as { notebook_metadata_filter?: unknown } | null | undefined)
    ?.notebook_metadata_filter;
  const keys = typeof filter === 'string' ? filter.split(',').map(key => key.trim()) : [];
  if (!keys.includes(`-${KEY}`) && [KEY, `+${KEY}`, 'all'].some(key => keys.includes(key))) {
    return 'metadata';
  }
  return /\.(py|md|markdown|myst|mystnb|mnb|qmd)$/i.test(path) ? 'script' : 'nowhere';
}

/** `jupyter overlay …` on a notebook, as it is typed into a terminal. */
export function commandOf(verb: string, notebook: string, words: readonly string[] = []): string {
  return `jupyter overlay ${[...verb.split(' '), notebook, ...words].map(quoted).join(' ')}`;
}

/** The commands that let a notebook declare `after` in place of `before`. */
export function commandsOf(
  notebook: string,
  before: readonly string[],
  after: readonly string[]
): string[] {
  const gone = dropped(before, after);
  const come = after.filter(extra => !before.includes(extra));
  return [
    ...(gone.length > 0 ? [commandOf('remove', notebook, gone)] : []),
    ...(come.length > 0 ? [commandOf('add', notebook, come)] : [])
  ];
}

/** A word of a command, in quotes where a shell would take it apart. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;
}

/** The names of the packages that the `# /// script` block of a cell declares. */
export function scriptNames(source: string): string[] {
  const [, block = ''] = /^# \/\/\/ script[ \t]*\n((?:#.*\n)*?)# \/\/\/[ \t]*$/m.exec(source) ?? [];
  const texts = [...block.matchAll(/"([^"\n]*)"|'([^'\n]*)'/g)];
  return texts.map(([, double, single]) => nameOf(double ?? single ?? '')).filter(name => name);
}
