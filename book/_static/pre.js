// Loaded before the widget manager on every page with widgets, so that the page serves all of it itself.

// The theme's icon script replaces <i> elements by <svg>; ipywidgets' buttons expect theirs to stay. Nest instead.
window.FontAwesomeConfig = Object.assign(window.FontAwesomeConfig || {}, { autoReplaceSvg: "nest" });

// ipywidgets typesets its labels through MathJax 2's queue; a page with math has MathJax 3.
window.addEventListener("load", () => {
  if (!window.MathJax) return;
  let ready = window.MathJax.startup.promise;
  window.MathJax.Hub = {
    Queue: ([, , element]) => {
      ready = ready.then(() => window.MathJax.typesetPromise([element]));
    },
  };
});
