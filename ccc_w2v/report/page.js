const list = document.getElementById("utterances");
const byNumber = (key, sign) => (a, b) => sign * (Number(a.dataset[key]) - Number(b.dataset[key]));
const orders = {
  errors: byNumber("errors", -1),
  rate: byNumber("rate", -1),
  longest: byNumber("words", -1),
  noisiest: byNumber("snr", 1),
};
document.getElementById("order")?.addEventListener("change", (event) => {
  const sorted = [...list.children].sort(orders[event.target.value]);
  list.append(...sorted);
});
document.getElementById("errors-only")?.addEventListener("change", (event) => {
  list.classList.toggle("errors-only", event.target.checked);
});
document.addEventListener("play", (event) => {
  for (const player of document.querySelectorAll("audio")) {
    if (player !== event.target) player.pause();
  }
}, true);
document.documentElement.classList.add("scripted");
