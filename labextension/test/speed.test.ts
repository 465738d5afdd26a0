import { describe, expect, it } from 'vitest';
import { Speed } from '../src/model/speed';

describe('a speed', () => {
  it('is not known at first', () => {
    expect(new Speed().at(100, 1)).toBe(0);
  });

  it('is that of the last seconds', () => {
    const speed = new Speed();
    speed.at(0, 0);
    expect(speed.at(100, 1)).toBe(100);
    for (let second = 2; second <= 20; second++) {
      speed.at(100, second);
    }
    expect(speed.at(100, 21)).toBe(0);
  });

  it('begins again with another download', () => {
    const speed = new Speed();
    speed.at(1000, 0);
    expect(speed.at(0, 1)).toBe(0);
    expect(speed.at(50, 2)).toBe(50);
  });
});
