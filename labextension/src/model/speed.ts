/** Seconds over which a speed is taken: shorter it jumps, longer it lags. */
const WINDOW = 5;

/** How fast something comes, from what has come so far. */
export class Speed {
  private _seen: { bytes: number; at: number }[] = [];

  /** What has come by a moment, in seconds; bytes per second, 0 where that is not known yet. */
  at(bytes: number, seconds: number): number {
    const last = this._seen[this._seen.length - 1];
    if (last && bytes < last.bytes) {
      this._seen = []; // another download
    }
    this._seen.push({ bytes, at: seconds });
    while (this._seen.length > 2 && (this._seen[1]?.at ?? seconds) <= seconds - WINDOW) {
      this._seen.shift();
    }
    const first = this._seen[0] ?? { bytes, at: seconds };
    const time = seconds - first.at;
    return time > 0 ? (bytes - first.bytes) / time : 0;
  }
}
