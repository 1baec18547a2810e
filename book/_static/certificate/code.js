// Codes of the grader: what one says, and whether it is one. `code` in qlayer_core/study/challenge.py makes the same.

const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** A check sum of 32 bits, FNV-1a. */
export const sum = (text) => new TextEncoder().encode(text).reduce((number, byte) => Math.imul(number ^ byte, 0x01000193) >>> 0, 0x811c9dc5);

/** The code of a task and a score, in tenths of a percent of right answers. */
export function write(number, tenths, name) {
  const body = `${number}-${`${tenths}`.padStart(4, "0")}`, check = sum(`qlayer-book/${body}/${name.trim()}`);
  return `Q${body}-${[0, 5, 10, 15, 20, 25].map((shift) => ALPHABET[(check >>> shift) & 31]).join("")}`;
}

/** What a code says: {task, right}, with right in percent; null if it is none, or another name's. */
export function read(code, name, tasks) {
  const [, number, tenths] = code.trim().toUpperCase().match(/^Q(\d)-(\d{4})-\w{6}$/) ?? [];
  const task = tasks.find((one) => `${one.number}` === number);
  if (!task || write(number, +tenths, name) !== code.trim().toUpperCase()) return null;
  return { task, right: +tenths / 10 };
}
