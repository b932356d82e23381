"""What else a structure is called: one line a structure, without left and right.

The side of a paired structure is no part of these names; :mod:`~refsam3d_nnunet.text.phrases`
attaches it. A line holds names of exactly one structure: no part for the whole, no neighbour. Its
last name is kept out of training and tests whether a model has learned more than the others.
"""

from __future__ import annotations

_TABLE = """
background | surroundings | remaining tissue | rest of the image

liver | hepatic organ | liver parenchyma | hepatic parenchyma
spleen | splenic organ | lien | splenic parenchyma
kidney | renal organ | ren | nephric organ
kidneys | both kidneys | renal organs | pair of kidneys
pancreas | pancreatic gland | pancreatic organ | pancreas gland
gallbladder | gall bladder | cholecyst | biliary vesicle
stomach | gastric organ | ventriculus | gaster
adrenal gland | suprarenal gland | adrenal | suprarenal body
esophagus | oesophagus | gullet | food pipe
duodenum | duodenal bowel | first part of the small bowel
small bowel | small intestine | small gut | small intestinal bowel
colon | large bowel | large intestine | colonic bowel
rectum | rectal bowel | terminal large intestine
urinary bladder | bladder | vesica urinaria | vesical organ
prostate | prostate gland | prostatic gland | prostatic organ
peripheral zone | peripheral zone of the prostate | outer gland of the prostate
transition zone | transition zone of the prostate | inner gland of the prostate
seminal vesicle | seminal gland | vesicular gland
uterus | womb | uterine organ
ovary | ovarian gland | female gonad
testis | testicle | male gonad
lung | pulmonary organ | pulmo | lung parenchyma
lungs | both lungs | pulmonary organs | pair of lungs
upper lobe of lung | upper lung lobe | lung upper lobe | superior pulmonary lobe
middle lobe of lung | middle lung lobe | lung middle lobe | middle pulmonary lobe
lower lobe of lung | lower lung lobe | lung lower lobe | inferior pulmonary lobe
trachea | windpipe | tracheal airway
airway | airways | bronchial tree | tracheobronchial tree
breast | mamma | mammary gland

heart | cardiac organ | cor | whole heart
myocardium | heart muscle | cardiac muscle | muscular wall of the heart
ventricle | heart ventricle | cardiac ventricle | ventricular cavity
ventricle cavity | ventricular blood pool | blood pool of the ventricle
atrium | heart atrium | cardiac atrium | atrial cavity
atrial appendage | auricle of the heart | auricular appendage
pericardium | heart sac | pericardial sac

aorta | aortic vessel | aortic artery | main artery of the body
aortic arch | arch of the aorta | arcus aortae
inferior vena cava | ivc | postcava | lower caval vein
superior vena cava | svc | precava | upper caval vein
portal vein | hepatic portal vein | vena portae
portal vein and splenic vein | portal and splenic veins | portosplenic venous axis
hepatic vessel | liver vessel | hepatic vasculature | blood vessels of the liver
pulmonary artery | lung artery | arteria pulmonalis
pulmonary vein | lung vein | vena pulmonalis
common carotid artery | carotid artery | carotid | arteria carotis communis
subclavian artery | artery under the clavicle | arteria subclavia
subclavian vein | vein under the clavicle | vena subclavia
brachiocephalic trunk | brachiocephalic artery | innominate artery
brachiocephalic vein | innominate vein | vena brachiocephalica
iliac artery | common iliac artery | arteria iliaca
iliac vein | common iliac vein | vena iliaca
jugular vein | internal jugular vein | vena jugularis
celiac trunk | coeliac trunk | celiac artery

tumor | tumour | neoplasm | neoplastic tissue
liver tumor | liver tumour | hepatic tumor | hepatic neoplasm
kidney tumor | kidney tumour | renal tumor | renal neoplasm
kidney cyst | renal cyst | cyst of the kidney
pancreas tumor | pancreatic tumor | pancreatic tumour | pancreatic neoplasm
lung tumor | lung tumour | pulmonary tumor | pulmonary neoplasm
lung nodule | pulmonary nodule | nodule of the lung
lung cancer | lung carcinoma | pulmonary cancer
colon cancer | colon cancer primaries | colonic cancer | carcinoma of the colon
whole tumor | whole tumour | entire tumor | complete neoplasm
tumor core | tumour core | core of the tumor | center of the neoplasm
enhancing tumor | enhancing tumour | contrast enhancing tumor | part of the tumor that enhances
non enhancing tumor | non enhancing tumour | tumor without enhancement
edema | oedema | peritumoral edema | swelling around the tumor
necrosis | necrotic core | necrotic tissue | dead tissue of the tumor
gtvp | primary gross tumor volume | primary tumor | gross volume of the primary
gtvn | nodal gross tumor volume | involved lymph nodes | gross volume of the nodes
lymph node | lymphatic node | lymph gland
lesion | abnormality | pathological area
stroke lesion | infarct | ischemic lesion | infarcted tissue
white matter hyperintensities | white matter lesions | white matter hyperintensity

brain | whole brain | encephalon
brainstem | brain stem | truncus encephali | stem of the brain
cerebellum | little brain | cerebellar organ
cerebrum | telencephalon | endbrain
gray matter | grey matter | substantia grisea
white matter | substantia alba | myelinated matter
cerebrospinal fluid | csf | liquor cerebrospinalis
hippocampus | hippocampal formation | hippocampal structure | hippocampal region
anterior hippocampus | hippocampus anterior | hippocampal head | front of the hippocampus
posterior hippocampus | hippocampus posterior | hippocampal body and tail | back of the hippocampus
amygdala | amygdaloid body | corpus amygdaloideum
thalamus | thalamic nucleus | thalamic gray matter
caudate | caudate nucleus | nucleus caudatus
putamen | putaminal nucleus | outer lentiform nucleus
pallidum | globus pallidus | pale globe
accumbens | nucleus accumbens | accumbens nucleus | accumbens area
lateral ventricle | lateral ventricle of the brain | lateral cerebral ventricle
third ventricle | 3rd ventricle | ventriculus tertius
fourth ventricle | 4th ventricle | ventriculus quartus
corpus callosum | callosal commissure | great commissure
pituitary | pituitary gland | hypophysis
vestibular schwannoma | acoustic neuroma | acoustic neurinoma
cochlea | inner ear cochlea | cochlear spiral

parotid | parotid gland | parotis | salivary gland in front of the ear
submandibular gland | submandibular | submandibular salivary gland | salivary gland below the jaw
spinal cord | medulla spinalis | myelon | spinal medulla
larynx | voice box | laryngeal organ
pharynx | throat | pharyngeal cavity
pharyngeal constrictor | pharyngeal constrictor muscle | constrictor of the pharynx
oral cavity | mouth cavity | cavity of the mouth
mandible | lower jaw | mandibula | jawbone
eye | eyeball | ocular globe
lens | eye lens | crystalline lens
optic nerve | nervus opticus | second cranial nerve
optic chiasm | chiasm | optic chiasma | crossing of the optic nerves
lacrimal gland | tear gland | glandula lacrimalis
temporal lobe | lobus temporalis | temporal part of the cerebrum
temporomandibular joint | tmj | jaw joint
thyroid | thyroid gland | glandula thyroidea
brachial plexus | plexus brachialis | nerve plexus of the arm

femur | thigh bone | femoral bone | os femoris
femoral head | head of the femur | caput femoris
femoral cartilage | cartilage of the femur | femoral articular cartilage
tibia | shin bone | tibial bone
tibial cartilage | cartilage of the tibia | tibial articular cartilage
patella | kneecap | knee cap
meniscus | cartilage disc of the knee | semilunar cartilage
hip | hip bone | innominate bone
humerus | upper arm bone | humeral bone
scapula | shoulder blade | scapular bone
clavicle | clavicula | collarbone
sternum | breastbone | sternal bone
sacrum | sacral bone | os sacrum
vertebra | vertebral bone | bone of the spine
vertebrae | vertebral column | bones of the spine
skull | cranium | bones of the head
gluteus maximus | gluteus maximus muscle | largest buttock muscle
gluteus medius | gluteus medius muscle | middle buttock muscle
gluteus minimus | gluteus minimus muscle | smallest buttock muscle
iliopsoas | iliopsoas muscle | psoas and iliacus muscle
autochthon | autochthonous back muscle | erector spinae | deep back muscle
"""

GROUPS: tuple[tuple[str, ...], ...] = tuple(
    tuple(name.strip() for name in line.split("|")) for line in _TABLE.splitlines() if line
)
_GROUP_OF = {name: group for group in GROUPS for name in group}


def synonyms_of(structure: str) -> tuple[str, ...]:
    """All names of a structure, itself among them; none if the table does not know it.

    Args:
        structure: Lower case, single spaces, without a side: "kidney".
    """
    return _GROUP_OF.get(structure, ())
