import { describe, expect, it } from 'vitest';
import { commandOf, commandsOf, homeOf, scriptNames } from '../src/model/text';

describe('what a notebook declares is kept', () => {
  it('in the metadata of a notebook, and where jupytext is told to keep it', () => {
    expect(homeOf('a/notes.ipynb', undefined)).toBe('metadata');
    for (const filter of ['torch_env', 'all', '+torch_env, -all', 'title,torch_env,-all']) {
      expect(homeOf('train.py', { notebook_metadata_filter: filter })).toBe('metadata');
    }
  });

  it('in a cell of a text notebook, whose metadata jupytext drops', () => {
    for (const about of [
      undefined,
      null,
      {},
      { notebook_metadata_filter: '-all' },
      { notebook_metadata_filter: 'all,-torch_env' },
      { notebook_metadata_filter: 3 }
    ]) {
      expect(homeOf('train.py', about)).toBe('script');
    }
    for (const name of ['a.md', 'a.QMD', 'a.markdown', 'a.myst']) {
      expect(homeOf(name, undefined)).toBe('script');
    }
  });

  it('nowhere in formats that are not read', () => {
    expect(homeOf('a.Rmd', undefined)).toBe('nowhere');
    expect(homeOf('a.R', undefined)).toBe('nowhere');
  });
});

describe('the commands of a change', () => {
  it('remove what has gone and add what is new or has other versions', () => {
    expect(commandsOf('/w/a.py', ['x', 'y>=1', 'z'], ['x', 'y>=2', 'new[a]'])).toEqual([
      'jupyter overlay remove /w/a.py z',
      "jupyter overlay add /w/a.py 'y>=2' 'new[a]'"
    ]);
    expect(commandsOf('/w/a.py', ['x'], ['x'])).toEqual([]);
  });

  it('are quoted for a shell', () => {
    expect(commandOf('add', "/w/it's mine.py", ['a ; os_name == "nt"'])).toBe(
      `jupyter overlay add '/w/it'\\''s mine.py' 'a ; os_name == "nt"'`
    );
  });
});

describe('a # /// script cell', () => {
  it('declares the packages of its block, and nothing else', () => {
    const source = [
      '"not_this"',
      '# /// script',
      '# requires-python = ">=3.11"',
      '# dependencies = [',
      '#   "Tiny_Pins[all]>9",  # why',
      "#   'einops',",
      '# ]',
      '# ///',
      'print("nor-this")'
    ];
    expect(scriptNames(source.join('\n'))).toEqual(['tiny-pins', 'einops']);
    expect(scriptNames('# dependencies = ["a"]')).toEqual([]);
    expect(scriptNames('# /// script\n# dependencies = ["a"]')).toEqual([]);
  });
});
