import type { Words } from '../src/model/words';

/** English, with what is filled in. */
export const trans: Words = {
  __: (text, ...args) => text.replace(/%(\d)/g, (_, number) => String(args[Number(number) - 1])),
  _n: (one, many, count) => (count === 1 ? one : many)
};
