import { describe, expect, it } from 'vitest';
import { parseMissing } from '../src/model/missing';

describe('the bundle of a missing module', () => {
  it('is read as it is', () => {
    const data = { version: 1, module: 'cv2', distribution: 'opencv-python-headless' };
    expect(parseMissing(data)).toEqual(data);
  });

  it('is refused where a button would install something else than a package', () => {
    for (const distribution of [
      '--index-url=http://x',
      'a b',
      'a;import os',
      '',
      'x @ http://y',
      3
    ]) {
      expect(parseMissing({ version: 1, module: 'x', distribution })).toBeNull();
    }
  });

  it('is refused in another version', () => {
    expect(parseMissing({ version: 2, module: 'x', distribution: 'x' })).toBeNull();
    expect(parseMissing('x')).toBeNull();
  });
});
