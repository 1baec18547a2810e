// Puts its picture into each place of the page that asks for one: <div data-toy="voronoi">, "learn", "push", "slice", "chain" or "zoom".
// What the place says without scripts stays until the picture is there, and where it can't be.

const sheet = new URL("toys.css", import.meta.url).href;

const styled = new Promise((done) => {
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: sheet, onload: done, onerror: done });
  document.head.append(link);
});

for (const place of document.querySelectorAll("[data-toy]:not([data-state])")) {
  place.dataset.state = "loading";
  Promise.all([import(`./${place.dataset.toy}.js`), styled])
    .then(([{ fill }]) => fill(place))
    .then(() => place.classList.add("toy"))
    .catch((error) => {
      place.dataset.state = "failed";
      console.error(`The picture ${place.dataset.toy} could not be shown: ${error.message}`);
    });
}
