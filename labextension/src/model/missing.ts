/** The MIME bundle by which a kernel tells of a module that is in no package of the notebook. */

export const MIME_TYPE = 'application/vnd.kernel-provisioner.missing-module+json';

/** `module` is the name that was imported, `distribution` the package on the index that brings it. */
export interface MissingModule {
  version: 1;
  module: string;
  distribution: string;
}

/** The bundle as a value; null where it is of another version, or holds what no package is called. */
export function parseMissing(data: unknown): MissingModule | null {
  if (typeof data !== 'object' || data === null) {
    return null;
  }
  const { version, module, distribution } = data as Record<string, unknown>;
  const fits =
    version === 1 &&
    typeof module === 'string' &&
    /^[\p{L}_][\p{L}\p{N}_.]{0,199}$/u.test(module) &&
    typeof distribution === 'string' &&
    /^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$/.test(distribution);
  return fits ? { version, module, distribution } : null;
}
