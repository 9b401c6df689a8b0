// Figures with their units, of equal width in a column.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const hour = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const NONE = "–";
export const count = (n) => (n === null || n === undefined ? NONE : whole.format(n));
export const compact = (n) => (n === null || n === undefined ? NONE : n < 10000 ? whole.format(n) : short.format(n));
export const percent = (share, digits = 1) => (share === null || share === undefined ? NONE : `${(share * 100).toFixed(digits)} %`);
export const rate = (perS) => (perS === null || perS === undefined ? NONE : perS >= 100 ? whole.format(perS) : perS.toFixed(1));
const date = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", timeZone: "UTC" });
export const day = (at) => date.format(new Date(at));
export const time = (at) => clock.format(new Date(at));
export const minute = (at) => hour.format(new Date(at));

export function money(usd) {
  if (usd === null || usd === undefined) return NONE;
  const size = Math.abs(usd);
  const digits = size === 0 || size >= 100 ? 2 : size >= 1 ? 3 : size >= 0.01 ? 4 : 6;
  return `${usd < 0 ? "−" : ""}$${size.toFixed(digits)}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = seconds / 60;
  if (minutes < 100) return `${Math.round(minutes)} min`;
  const hours = minutes / 60;
  return hours < 48 ? `${hours.toFixed(1)} h` : `${Math.round(hours / 24)} days`;
}

export const latency = (ms) => (ms === null || ms === undefined ? NONE : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);
export const words = (name) => String(name).replaceAll("_", " ");
