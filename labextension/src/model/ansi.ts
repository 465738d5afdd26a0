/** Text without the escape sequences that colour it in a terminal. */
export function plainText(text: string): string {
  // eslint-disable-next-line no-control-regex -- escape sequences begin with a control character
  return text.replace(/\x1b\[[0-9;]*m/g, '');
}
