"""What the page of a run is drawn with: pieces of HTML, axes, and the plots made of them."""
