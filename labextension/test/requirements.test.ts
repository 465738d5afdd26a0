import { describe, expect, it } from 'vitest';
import {
  changed,
  choiceOf,
  declared,
  extrasOf,
  nameOf,
  partsOf,
  renamed,
  requirementOf,
  restored,
  undeclared,
  withExtras,
  withNew,
  withVersion
} from '../src/model/requirements';

describe('a name', () => {
  it('is compared as PEP 503 says', () => {
    expect(nameOf('Scikit_Learn>=1.2')).toBe('scikit-learn');
    expect(nameOf('  datasets[audio] ; python_version>"3.9"')).toBe('datasets');
    expect(nameOf('-r /etc/passwd')).toBe('');
  });
});

describe('extras', () => {
  it('get the name that was meant, with what else was asked for', () => {
    const extras = ['Transfomers[torch]>=4 ; python_version>"3"', 'einops', 'transformers'];
    expect(renamed(extras, 'transfomers', 'transformers')).toEqual(['transformers', 'einops']);
    expect(renamed(extras.slice(0, 2), 'transfomers', 'transformers')).toEqual([
      'transformers[torch]>=4 ; python_version>"3"',
      'einops'
    ]);
  });
  it('are added at the end, or in the place of the same name', () => {
    expect(declared(['einops', 'Timm>=1'], ['timm==1.0.9', 'seaborn'])).toEqual([
      'einops',
      'timm==1.0.9',
      'seaborn'
    ]);
  });

  it('stay as they are where they are declared already', () => {
    expect(withNew(['Tiny_Plot>=0.5,<1'], ['tiny-plot', 'einops'])).toEqual([
      'Tiny_Plot>=0.5,<1',
      'einops'
    ]);
  });

  it('are removed by name, however they are written', () => {
    expect(undeclared(['einops>=0.8', 'scikit_learn'], ['Scikit-Learn'])).toEqual(['einops>=0.8']);
  });

  it('are none where the metadata are of another shape', () => {
    for (const value of [
      null,
      undefined,
      'x',
      ['einops'],
      { extras: 'einops' },
      { extras: null }
    ]) {
      expect(extrasOf(value)).toEqual([]);
    }
  });
});

describe('metadata', () => {
  it('keep what is not ours to change', () => {
    const before = { accelerator: 'cuda', somebodys: { own: 1 }, extras: ['a'] };
    expect(withExtras(before, ['b'])).toEqual({
      accelerator: 'cuda',
      somebodys: { own: 1 },
      extras: ['b']
    });
    expect(before.extras).toEqual(['a']);
  });

  it('are nothing where nothing is declared', () => {
    expect(withExtras(undefined, [])).toBeUndefined();
    expect(withExtras({ extras: ['a'] }, [])).toEqual({ extras: [] });
  });
});

describe('undoing a change', () => {
  it('takes back that change alone', () => {
    expect(restored(['a', 'b', 'c'], ['a'], ['a', 'b'])).toEqual(['a', 'c']);
    expect(restored(['a==1', 'c'], ['a>=0'], ['a==1'])).toEqual(['a>=0', 'c']);
    expect(restored(['c'], ['a', 'c'], ['c'])).toEqual(['c', 'a']);
    expect(restored(['b'], ['a'], ['b'])).toEqual(['a']);
  });
});

describe('a requirement', () => {
  it('is taken apart and put together again', () => {
    for (const text of ['a', 'a>=1,<2', 'a[x,y]', 'a[x]==1.0 ; python_version > "3.9"']) {
      const parts = partsOf(text);
      expect(parts && requirementOf(parts)).toBe(text);
    }
    expect(partsOf('a [ x , y ] >= 1')).toEqual({
      name: 'a',
      extras: ['x', 'y'],
      versions: '>= 1',
      marker: ''
    });
  });

  it('is of versions that are chosen by one sign, or kept as they are', () => {
    expect(choiceOf('')).toEqual({ sign: '', version: '' });
    expect(choiceOf('>= 4.44')).toEqual({ sign: '>=', version: '4.44' });
    for (const range of ['>=4.44,<5', '<2', '!=1.5', '==1.*,>=1.2']) {
      expect(choiceOf(range)).toEqual({ sign: 'kept', version: '' });
    }
  });

  it('is left alone where it names an address', () => {
    expect(partsOf('a @ https://example.org/a.whl')).toBeNull();
    expect(withVersion('a @ https://example.org/a.whl', '==1')).toBe(
      'a @ https://example.org/a.whl'
    );
  });

  it('keeps its extras and its marker where its versions change', () => {
    expect(withVersion('a[x]>=1; os_name=="nt"', '==2')).toBe('a[x]==2 ; os_name=="nt"');
  });
});

describe('a change from a terminal', () => {
  it('adds, removes and says, and leaves what is not meant', () => {
    const before = { accelerator: 'cpu', extras: ['einops', 'timm'] };
    expect(changed(before, ['seaborn>=0.13', 'Timm<2'], ['einops'], {})).toEqual({
      accelerator: 'cpu',
      extras: ['Timm<2', 'seaborn>=0.13']
    });
    expect(changed(before, [], [], { lock: { packages: [] } })).toEqual({
      ...before,
      lock: { packages: [] }
    });
    expect(changed(undefined, ['einops'], [], {})).toEqual({ extras: ['einops'] });
    expect(changed(undefined, [], [], {})).toBeUndefined();
  });
});
