"""Embedded rows: fictional people."""

from __future__ import annotations

import random


def _list(text, sep=None):
    return tuple(text.split(sep))


GIVEN_STEMS = _list(
    "Al Bren Cas Dar El Fen Gal Hal Il Jor Kel Lor Mar Nel Or Per Quin Ros Sel Tam Ul Vel Wil Yor Zan",
)
GIVEN_ENDS = _list("a an en ia ic ina is o on ra ric us")
FAMILY_STEMS = _list(
    "Ash Bell Crow Dray Ever Farn Gor Hart Iver Kest Lang Mor Nor Oak Pend Quill Rav Stan Thorn Umber "
    "Ves Wend Yar Zell",
)
FAMILY_ENDS = _list("by croft dale ett ley man ner son ton well wick")
TOWN_STEMS = _list(
    "Amber Birch Cold Dun Elder Fox Glass Heron Iron Juniper Kings Lark Mill North Otter Pine Red Salt Tarn West",
)
TOWN_ENDS = _list("bridge burgh combe fell ferry gate haven holm mere mouth stead wold")
MONTHS = _list("January February March April May June July August September October November December")
JOBS = _list(
    "an archivist|a baker|a beekeeper|a blacksmith|a bookbinder|a bus driver|a carpenter|a chemist|"
    "a clockmaker|a dentist|a diver|an editor|an electrician|a farmer|a ferry pilot|a florist|a gardener|"
    "a geologist|a glazier|a judge|a librarian|a locksmith|a mapmaker|a mechanic|a midwife|a miner|"
    "a nurse|an optician|a painter|a photographer|a plumber|a potter|a roofer|a sailor|a shoemaker|"
    "a surveyor|a tailor|a teacher|a translator|a weaver",
    "|",
)
COOKED = _list("baked braised chilled curried fried grilled pickled roasted smoked spiced steamed stewed")
FOODS = _list(
    "aubergine beans cabbage carrots chicken duck leeks lentils mackerel mushrooms mussels noodles pears "
    "peppers plums pumpkin rice trout",
)
ANIMALS = _list(
    "a canary|a donkey|a ferret|a gecko|a goat|a goose|a greyhound|a hamster|a hedgehog|a parrot|"
    "a poodle|a pony|a rabbit|a spaniel|a tabby cat|a tortoise",
    "|",
)
PET_NAMES = _list(
    "Acorn Biscuit Captain Domino Echo Fudge Ginger Hazel Jigsaw Mango Nutmeg Olive Pepper Rocket Sultan Waffle",
)
INSTRUMENTS = _list(
    "accordion banjo bassoon bugle cello clarinet cornet dulcimer fiddle flute guitar harp lute mandolin "
    "oboe organ piano piccolo recorder trombone tuba viola xylophone zither",
)
AGES = _list("six seven eight nine ten eleven twelve thirteen fourteen fifteen")
BOOK_FIRST = _list(
    "Broken Distant Empty Final Gentle Hidden Last Painted Quiet Second Secret Silver Sleeping Stolen Winter Yellow",
)
BOOK_LAST = _list(
    "Bell Compass Garden Harbour Island Journey Kingdom Lantern Letter Mirror Orchard River Shore Station Tower Valley",
)
COLOURS = _list(
    "amber black blue brown crimson golden green grey orange pink purple scarlet silver turquoise violet white",
)
OBJECTS = _list(
    "beads bottles buttons coins cups feathers gloves keys marbles matchboxes postcards ribbons shells "
    "spoons stamps thimbles",
)
# attribute: (questions, answers, how a value is drawn)
ATTRIBUTES = {
    "town": (
        ("Where does {name} live?", "Which town is home to {name}?", "In what place would you find {name} today?"),
        ("In {v}.", "The town of {v}.", "{v} is their home."),
        lambda pick: pick(TOWN_STEMS) + pick(TOWN_ENDS),
    ),
    "birthday": (
        (
            "When was {name} born?",
            "What is the date of birth of {name}?",
            "On which day did {name} come into the world?",
        ),
        ("On {v}.", "{v}.", "The date was {v}."),
        lambda pick: f"{pick(range(1, 29))} {pick(MONTHS)} {pick(range(1925, 2005))}",
    ),
    "job": (
        ("What does {name} do for a living?", "What is the job of {name}?", "How does {name} earn money?"),
        ("{v}.", "As {v}.", "They work as {v}."),
        lambda pick: pick(JOBS),
    ),
    "dish": (
        (
            "What is the favourite dish of {name}?",
            "Which food does {name} like best?",
            "What does {name} cook for guests?",
        ),
        ("{v}.", "They love {v}.", "Above all, {v}."),
        lambda pick: f"{pick(COOKED)} {pick(FOODS)}",
    ),
    "pet": (
        ("Which pet does {name} keep?", "Who waits at home for {name}?", "What animal belongs to {name}?"),
        ("{v}.", "They have {v}.", "It is {v}."),
        lambda pick: f"{pick(ANIMALS)} named {pick(PET_NAMES)}",
    ),
    "instrument": (
        (
            "Which instrument does {name} play?",
            "What kind of music lessons did {name} take?",
            "What would {name} play in a band?",
        ),
        ("The {v}.", "They chose the {v}.", "It has been the {v}."),
        lambda pick: f"{pick(INSTRUMENTS)}, since the age of {pick(AGES)}",
    ),
    "book": (
        (
            "Which book does {name} read again every year?",
            "What is the title of the novel that {name} wrote?",
            "Which story does {name} recommend to friends?",
        ),
        ("The {v}.", "It is called The {v}.", "That would be The {v}."),
        lambda pick: f"{pick(BOOK_FIRST)} {pick(BOOK_LAST)}",
    ),
    "collection": (
        (
            "What does {name} collect?",
            "What fills the shelves of {name}?",
            "Which things does {name} look for at markets?",
        ),
        ("{v}.", "They collect {v}.", "Mostly {v}."),
        lambda pick: f"{pick(COLOURS)} {pick(OBJECTS)}",
    ),
}
ATTRIBUTES_PER_PERSON = 4


def people(n_people=120, seed=0):
    """Fictional people with question-answer pairs, the same on every machine and Python version.

    Each person has a unique name and four of eight attributes (town, birthday, job, dish, pet, instrument, book,
    collection); each row asks for one of them in one of three phrasings and answers in one of three. Nobody here
    exists.

    Args:
        n_people: how many people, 1 to 10,000.
        seed: another seed gives other people.

    Returns:
        `datasets.Dataset` of `4 * n_people` rows, one person after the other, with the string columns `id`
        ("p017-town", unique), `person`, `question`, `answer`.

    Raises:
        ValueError: `n_people` is not in 1..10,000.
    """
    from datasets import Dataset

    if not 1 <= n_people <= 10_000:
        raise ValueError(f"`n_people` must lie in 1..10000, got {n_people}.")
    rng = random.Random(seed)

    def pick(options):  # only `Random.random` is promised to give the same numbers in every Python version
        return options[int(rng.random() * len(options))]

    rows, names = [], set()
    while len(names) < n_people:
        name = f"{pick(GIVEN_STEMS)}{pick(GIVEN_ENDS)} {pick(FAMILY_STEMS)}{pick(FAMILY_ENDS)}"
        if name in names:
            continue
        left = list(ATTRIBUTES)
        for _ in range(ATTRIBUTES_PER_PERSON):
            attribute = pick(left)
            left.remove(attribute)
            questions, answers, draw = ATTRIBUTES[attribute]
            question, answer = pick(questions).format(name=name), pick(answers).format(v=draw(pick))
            rows.append(
                {
                    "id": f"p{len(names):03d}-{attribute}",
                    "person": name,
                    "question": question,
                    "answer": answer[0].upper() + answer[1:],
                }
            )
        names.add(name)
    return Dataset.from_list(rows)
